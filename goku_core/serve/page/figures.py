"""The HTML of the page's results. Everything that comes from an order, a file or the ledger is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from goku_core.serve.orders import Result, Ticket
from goku_core.serve.page.provenance import Origins


@dataclass(frozen=True)
class Drawing:
    """One order as the page shows it. title: the model it is drawn with; score: what the ledger has of that model."""

    prompt: str
    title: str
    score: str
    ticket: Ticket
    origins: Origins | None = None


def status(drawings: Sequence[Drawing]) -> str:
    """One sentence about what is going on."""
    tickets = [drawing.ticket for drawing in drawings]
    if faults := [ticket.error.message for ticket in tickets if ticket.state == "failed" and ticket.error]:
        return said(" ".join(dict.fromkeys(faults)), "fault")
    if all(ticket.state == "cancelled" for ticket in tickets):
        reasons = [ticket.error.message for ticket in tickets if ticket.error and ticket.error.code != "cancelled"]
        return said(" ".join(dict.fromkeys(reasons)) or "Cancelled.")
    going = [ticket for ticket in tickets if not ticket.has_ended]
    if not going:
        seconds = sum(ticket.result.seconds for ticket in tickets if ticket.result)
        return said(f"Done in {seconds:.1f} s of drawing.", "done")
    running = [ticket for ticket in going if ticket.state == "running"]
    if not running:
        before = min(ticket.position or 0 for ticket in going)
        place = f"{before} {'order' if before == 1 else 'orders'} before yours" if before else "next in the queue"
        return said(f"Waiting: {place}{_left(going)}.")
    drawn = f" {len(tickets) - len(going) + 1} of {len(tickets)}" if len(tickets) > 1 else ""
    return said(f"Drawing{drawn}{_left(going)}.")


def said(sentence: str, kind: str = "note") -> str:
    """A line for people, read aloud by a screen reader: a fault at once, the rest when there is a pause."""
    role = "alert" if kind == "fault" else "status"
    return f'<p class="said {kind}" role="{role}">{escape(sentence)}</p>'


def drawing(shown: Drawing, alone: bool = True) -> str:
    """A drawing with its heading; while there is no file, a frame of its shape with the progress in it.

    alone  False beside another one: its origins are folded up then, so that the drawings can be compared
    """
    ticket = shown.ticket
    head = (
        f'<h3>{escape(shown.title)}</h3><p class="score"><span>version {ticket.version} · {ticket.digest[:12]}</span> '
        f"<span>{escape(shown.score)}</span></p>"
    )
    if ticket.state == "done" and ticket.result is not None:
        body = f"{_file(ticket.result, shown.prompt, ticket.id)}{_origins(shown, alone)}"
        return f'<article class="drawing" data-ticket="{ticket.id}">{head}{body}</article>'
    if ticket.has_ended:
        inside = f"<p>{'Cancelled' if ticket.state == 'cancelled' else 'Not drawn'}</p>"
    elif ticket.state == "queued":
        inside = "<p>Waiting</p>"
    else:
        done = round(100 * ticket.progress)
        inside = (
            f'<div class="bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{done}"><i style="width:{done}%"></i></div><p>{done} %</p>'
        )
    return f'<article class="drawing">{head}<div class="blank">{inside}</div></article>'


def nothing() -> str:
    return '<div class="blank first"><p>What you draw appears here.</p></div>'


def history(drawings: Sequence[Drawing]) -> str:
    """Small pictures of this visit, newest first; each is a button that shows its drawing again."""
    if not drawings:
        return ""
    cells = []
    for shown in drawings:
        result, ticket = shown.ticket.result, shown.ticket
        if result is None:
            continue
        name = escape(f"{shown.prompt}, seed {ticket.seed}, version {ticket.version}", quote=True)
        cells.append(
            f'<li><button type="button" data-show="{ticket.id}" title="{name}" aria-label="Show again: {name}">'
            f"{_media(result, '', small=True)}<span>{escape(shown.prompt)}</span></button></li>"
        )
    return f'<h2>Drawn on this visit</h2><ul class="history">{"".join(cells)}</ul>'


def _left(going: Sequence[Ticket]) -> str:
    known = [ticket.eta_s for ticket in going if ticket.eta_s is not None]
    return f", about {max(1, round(max(known)))} s left" if known else ""


def _file(result: Result, prompt: str, id: str) -> str:
    suffix = "mp4" if result.media_type == "video/mp4" else "png"
    kind = "clip" if suffix == "mp4" else "picture"
    return (
        f'<figure>{_media(result, prompt)}</figure><p class="take">'
        f'<a class="button" href="{escape(result.url, quote=True)}" download="goku-{id[:12]}.{suffix}">Download {kind}</a>'
        f"<small>{result.height} x {result.width} px, {_bytes(result.bytes)}</small></p>"
    )


def _media(result: Result, prompt: str, small: bool = False) -> str:
    url, alt = escape(result.url, quote=True), escape(prompt, quote=True)
    shape = f'width="{result.width}" height="{result.height}"'
    if result.media_type == "video/mp4":
        ways = "muted preload=metadata" if small else "controls autoplay loop muted"
        label = "" if small else f' aria-label="{alt}"'
        url += "#t=0.01" if small else ""  # the first frame, where a browser shows nothing before the clip is played
        return f'<video src="{url}" {shape} {ways} playsinline{label}></video>'
    return f'<img src="{url}" {shape} alt="{alt}">'


def _origins(shown: Drawing, open: bool) -> str:
    if shown.origins is None:
        return ""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in shown.origins.facts)
    command = escape(shown.origins.command)
    name = f"goku-{shown.ticket.id[:12]}.json"
    return (
        f'<details class="origins"{" open" if open else ""}><summary>Where it comes from</summary><dl>{rows}</dl>'
        f'<p class="again"><span>Draws the same again:</span><button type="button" data-copy>Copy</button></p>'
        f'<pre tabindex="0"><code>{command}</code></pre>'
        f'<a class="button" href="{shown.origins.download}" download="{name}">Download provenance (JSON)</a></details>'
    )


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1000))} kB"
