"""MODEL_CARD.md: what a bundle is, what it was made from, what it scored, who decided, with pictures to look at.

Made from the bundle's manifest, the ledger, the evaluation and the lineage records, and from nothing else. It lies beside
the bundle and is no part of its digest: a decision made later (an approval, a rollback) makes it anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle, evidence, ledger, signature
from goku_core.promote.ledger import Entry

CARD = "MODEL_CARD.md"
PICTURES = "pictures"
EXAMPLES, PICTURE_BYTES = 8, 256_000
TASKS = {"t2i": "text to image", "t2v": "text to video", "i2v": "image to video"}


def write(workspace: Path, digest: str, folder: Path) -> Path:
    """Write the card of a bundle into `folder`, pictures beside it; returns the card's path.

    Raises GokuError where the bundle or its ledger entry is not there.
    """
    place = bundle.location(workspace, digest)
    entries = [entry for entry in ledger.read(workspace) if entry.bundle == digest]
    if not entries or not (place / bundle.MANIFEST).is_file():
        raise GokuError(f"{place}: no bundle with an entry in the ledger, so there is nothing to write a card about.")
    manifest = json.loads((place / bundle.MANIFEST).read_text(encoding="utf-8"))
    judged = next((entry for entry in entries if entry.decision != "rolled-back"), entries[0])
    summary = evidence.summary_of(workspace, judged.evidence)
    examples = list(_pictures(workspace, judged, summary, folder / PICTURES))
    records = _records(workspace, [str(value) for value in manifest["lineage"].get("models", {}).values()])
    parts = [
        f"# Goku, version {judged.version}\n",
        *_what(place, manifest, digest),
        *_scores(judged, summary),
        *_gate(workspace, entries),
        *_examples(examples),
        *_lineage(manifest, records),
        *_use(place, records),
        *_licences(workspace, place, records),
        _state(workspace, digest),
    ]
    card = folder / CARD
    draft = card.with_name(f".{CARD}.draft")
    draft.write_text("\n".join(parts) + "\n", encoding="utf-8")
    draft.replace(card)
    return card


def holds(workspace: Path, digest: str, folder: Path) -> bool:
    """Does the card in `folder` tell of the last decision about the bundle, and of the signature it has now?"""
    card = folder / CARD
    return card.is_file() and card.read_text(encoding="utf-8").rstrip().endswith(_state(workspace, digest))


def _state(workspace: Path, digest: str) -> str:
    numbers = ", ".join(str(entry.number) for entry in ledger.read(workspace) if entry.bundle == digest)
    signed = bundle.location(workspace, digest) / bundle.SIGNATURE
    return f"<!-- ledger entries {numbers}; signature {bundle.sha256(signed)[:16] if signed.is_file() else 'none'} -->"


def _what(place: Path, manifest: Mapping[str, Any], digest: str) -> Iterator[str]:
    tasks = json.loads((place / bundle.SETTINGS).read_text(encoding="utf-8"))["tasks"]
    phases = manifest["lineage"].get("phases")
    phases = phases if isinstance(phases, Mapping) else {}
    yield "Rectified-flow transformer for pictures and clips, with its VAE (the architecture of arXiv 2502.04896).\n"
    yield from _row("task", "trained phase", "network", "trained at", "weights (SHA-256)", head=True)
    for task, part in tasks.items():
        told = json.loads((place / part / bundle.SETTINGS).read_text(encoding="utf-8"))
        network, shape = told.get("model", {}), told.get("resolution", {})
        size = f"{network['depth']} blocks, width {network['width']}" if "depth" in network else "not stated"
        at = f"{shape['height']}x{shape['width']} px" if "height" in shape else "not stated"
        if task != "t2i" and "frames" in shape:
            at += f", {shape['frames']} frames at {shape['fps']:g}/s"
        weights = manifest["files"][f"{part}/{bundle.WEIGHTS}"]["sha256"]
        yield from _row(TASKS.get(task, task), phases.get(task, "not stated"), size, at, f"`{weights[:16]}`")
    total = sum(facts["bytes"] for facts in manifest["files"].values())
    yield f"\nBundle `{digest}`, {total / 1e6:,.1f} MB.\n"


def _scores(judged: Entry, summary: Mapping[str, Any]) -> Iterator[str]:
    yield "## Scores\n"
    if not summary:
        yield f"overall {judged.score:.4f} ({_span(judged.interval)}). The evaluation itself is gone from this workspace.\n"
        return
    judge = summary.get("judge", {}).get("fingerprint", "not stated")
    yield f"Protocol `{judged.protocol}`, judge `{judge}`, 95 % intervals. Evaluation `{judged.evidence[:16]}`.\n"
    yield from _row("score", "value", "95 % interval", head=True)
    for name, score in evidence.scores(summary).items():
        yield from _row(name, f"{score.value:.4f}", _span((score.low, score.high)))
    yield ""


def _gate(workspace: Path, entries: Sequence[Entry]) -> Iterator[str]:
    yield "## Decisions\n"
    yield from _row("entry", "decision", "by", "when (UTC)", "why", head=True)
    for entry in entries:
        yield from _row(str(entry.number), entry.decision, entry.by, entry.time[:16].replace("T", " "), entry.reason)
    signed = signature.check(bundle.location(workspace, entries[0].bundle), entries[0].bundle, [])
    rules = next((entry.gate for entry in entries if entry.gate), None)
    yield f"\nRules: {f'`ledger/gates/{rules}.json`' if rules else 'not kept (an entry of before they were)'}."
    yield f"Signed: {f'with `{signed.key}` ({signed.algorithm})' if signed else 'no'}.\n"


def _pictures(
    workspace: Path, judged: Entry, summary: Mapping[str, Any], place: Path
) -> Iterator[tuple[str, str, str]]:
    """Copies the first picture of each task, then the second: file name, prompt, task. Not chosen by their verdicts."""
    shutil.rmtree(place, ignore_errors=True)
    shown, files = _evaluation(workspace, judged.evidence, summary)
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for single in shown.get("singles", []):
        by_task.setdefault(single["task"], []).append(single)
    order = [group[turn] for turn in range(2) for group in by_task.values() if len(group) > turn]
    for single in order[:EXAMPLES]:
        file, name = files.get(single["file"]), Path(single["file"]).name
        if file is not None and file.is_file() and file.stat().st_size <= PICTURE_BYTES:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place / name)
            yield name, single["prompt"], single["task"]


def _evaluation(
    workspace: Path, digest: str, summary: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Path]]:
    """Summary and files, by name, of the evaluation: in the workspace, which may hold a later one of the same weights, or
    in the store."""
    folder = workspace / evidence.FOLDER
    if summary and (folder / evidence.SUMMARY).is_file():
        present = json.loads((folder / evidence.SUMMARY).read_text(encoding="utf-8"))
        if present.get("models") == summary["models"] and present.get("vae") == summary.get("vae"):
            return present, {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    from goku_core.pipeline.commit import Workspace

    with Workspace(workspace) as place:
        for record in place.records():
            tree = record.outputs.get(evidence.FOLDER)
            if tree is not None and tree.files.get(evidence.SUMMARY) == digest:
                return summary, {name: place.store.place(sha256) for name, sha256 in tree.files.items()}
    return {}, {}


def _examples(examples: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    yield "## Pictures\n"
    if not examples:
        yield "The pictures of its evaluation are gone from this workspace.\n"
        return
    yield "The first of each task of the evaluation; not chosen.\n"
    yield from (f"![{prompt}]({PICTURES}/{name}) {task}: {prompt}  " for name, prompt, task in examples)
    yield ""


def _records(workspace: Path, models: Sequence[str]) -> list[Mapping[str, Any]]:
    """Lineage records of all work that led to the weights, the trainings first; empty where none are kept."""
    from goku_core.lineage import chain

    found: dict[str, Mapping[str, Any]] = {}
    for digest in models:
        try:
            known = chain(workspace, digest)
            nodes = [node for node in (*known.asked, *known.made_from) if node.stage not in ("evaluate", "promote")]
            found |= {node.digest: node.value for node in nodes}
        except GokuError:  # trained elsewhere, or its records are gone: the card says that none are kept here
            continue
    return sorted(found.values(), key=lambda value: value["finished"], reverse=True)


def _lineage(manifest: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "## Made from\n"
    if not records:
        yield "No lineage records of its training are kept in this workspace.\n"
    else:
        yield from _row("work", "fingerprint", "commit", "MLflow run", "finished (UTC)", head=True)
        for value in records:
            git = value.get("git") or {}
            commit = f"{(git.get('commit') or 'unknown')[:12]}{' (changed)' if git.get('dirty') else ''}"
            run = value.get("mlflow_run") or "none"
            when = value["finished"][:16].replace("T", " ")
            yield from _row(value["cell"], value["fingerprint"][:16], commit, run, when)
        data = {
            path: digest for value in records for path, digest in value["outputs"].items() if path.startswith("data/")
        }
        told = ", ".join(f"`{path}` {digest[:16]}" for path, digest in sorted(data.items()))
        yield f"\nTraining data: {told or 'not made here'}.\n"
    files = ", ".join(f"`{name}` {value[:16]}" for name, value in manifest["lineage"].get("evaluation", {}).items())
    yield f"Evaluation: {files}. VAE: `{str(manifest['lineage'].get('vae'))[:16]}`.\n"


def _use(place: Path, records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "## Intended use, and limits\n"
    yield (
        "To draw pictures and clips from text, and clips from a first picture, at about the sizes of the table above; other "
        "sizes and lengths were not evaluated. Scores hold for the prompts of the evaluation and for this judge."
    )
    words = [json.loads(path.read_text(encoding="utf-8")).get("text", {}) for path in place.glob("*/config.json")]
    if any(told.get("kind") == "words" for told in words):
        yield "It knows the words of its training captions and no others: an unknown word means nothing to it."
    if any(value["stage"] == "collect" and value["request"].get("source") == "sample" for value in records):
        yield "Trained on drawn shapes: it makes no photographs, and shows that the line works rather than what it could do."
    yield "Whatever it draws carries its provenance in the file; nothing else in it keeps a viewer from taking it for real.\n"


def _licences(workspace: Path, place: Path, records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "## Licences of what went in, as far as they are known\n"
    sources = [value["request"].get("source") for value in records if value["stage"] == "collect"]
    if not sources:
        yield "- Media: not known here, no record of their collection."
    elif sources[0] == "sample":
        yield "- Media: drawn by this software; nobody else's rights."
    else:
        yield f"- Media: from `{sources[0]}`; their licences are not recorded, ask whoever keeps that source."
    texts = [
        json.loads(path.read_text(encoding="utf-8")).get("text", {}) for path in sorted(place.glob("*/config.json"))
    ]
    for weights in dict.fromkeys(told["weights"] for told in texts if told.get("kind", "words") != "words"):
        yield f"- Text encoder: `{weights}`, under the licence of its publisher."
    clips = {digest for value in records for path, digest in value["outputs"].items() if path == "data/clips.parquet"}
    yield from _scorers(workspace / "data/clips.parquet", clips)
    yield ""


def _scorers(clips: Path, digests: set[str]) -> Iterator[str]:
    """Weights that scored the training clips, with the licence that the table's columns carry."""
    if not clips.is_file() or bundle.sha256(clips) not in digests:
        return
    import pyarrow.parquet as pq

    for column in pq.read_schema(clips):
        told = {key.decode(): value.decode() for key, value in (column.metadata or {}).items()}
        if "licence" in told:
            yield f"- Scores `{column.name}` of the training clips: `{told.get('model')}`, {told['licence']}."


def _row(*cells: str, head: bool = False) -> Iterator[str]:
    yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    if head:
        yield "|" + " --- |" * len(cells)


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"
