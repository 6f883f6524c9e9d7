"""The report of a failed run, for its page and for whoever has no server: Markdown."""

from __future__ import annotations

from typing import Any

from flows.scores import plain


def report(failure: dict[str, Any] | None) -> str:
    """Markdown. What comes from logs and messages is data: no markup of it counts."""
    if failure is None:
        return "The run has left no attempt: it was refused, or ended before any work began. Its own page says why."
    told = {key: plain(str(failure[key])) for key in ("cell", "kind", "message", "to_do")}
    lines = [f"# {told['cell']} failed: {told['kind']}", told["message"], f"**To do:** {told['to_do']}", ""]
    lines += [f"- attempt {failure['attempt']}, begun {failure['started'][:19]} UTC, {failure['seconds']} s"]
    lines += [f"- scratch: {failure['scratch']}"] if failure["scratch"] else []
    lines += [f"- {name}: {count}" for name, count in failure["incidents"].items()]
    if spent := failure["goodput"]:
        lines += ["", "| goodput | |", "|---|---|", *(f"| {name} | {value} |" for name, value in spent.items())]
    for name, text in {"trace": failure["trace"], **failure["logs"]}.items():
        lines += ["", f"## {name}", "", *(f"    {line}" for line in text.splitlines())] if text else []
    return "\n".join(lines)
