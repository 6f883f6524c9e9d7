"""Builds reports/index.html from the facts: one file, no request to anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from goku_core.report import table
from goku_core.report.charts import curve
from goku_core.report.embed import Embedder
from goku_core.report.facts import Facts, Phase, gather
from goku_core.report.template import rendered

PAGE = Path("reports/index.html")
LEADING = """<!doctype html><meta charset="utf-8"><title>Evaluation</title>
<script>location.replace("{target}" + location.hash)</script>
<a href="{target}">Evaluation</a>
"""
STRIP = 12
EXAMPLES_PER_REASON = 3


def build_page(workspace: Path) -> Path:
    """Writes the page and returns its path."""
    facts = gather(workspace)
    embed = Embedder()
    view = {
        "champion": _champion(facts),
        "strip": _strip(facts, embed),
        "line": _line(facts),
        "total": table.duration(facts.total_seconds),
        "evaluation": _evaluation(facts, embed),
        "phases": [_phase(phase, facts, embed) for phase in facts.phases],
        "vae": _vae(facts, embed),
        "curation": _curation(facts, embed),
        "comparisons": _comparisons(workspace, embed),
        "lineage": _lineage(facts),
        "omitted": embed.omitted,
    }
    text = rendered(Path(__file__).parent, view, {"duration": table.duration})
    page = workspace / PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    draft = page.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(page)
    _lead_to_evaluation(workspace)
    return page


def _lead_to_evaluation(workspace: Path) -> None:
    """reports/evaluation.html, beside reports/curation.html: opens the page that lies with the samples it shows."""
    target = "evaluation/evaluation.html"
    if (workspace / "reports" / target).is_file():
        text = LEADING.format(target=target)
        (workspace / "reports/evaluation.html").write_text(text, encoding="utf-8")


def _champion(facts: Facts) -> dict[str, Any] | None:
    told = facts.promotion
    if told is None:
        return None
    return {key: told.get(key) for key in ("version", "decision", "reason", "digest", "alias")}


def _strip(facts: Facts, embed: Embedder) -> list[dict[str, Any]]:
    """First samples of different prompts, as they came: right and wrong ones."""
    if facts.evaluation is None:
        return []
    folder = facts.root / "reports/evaluation"
    by_task: dict[str, list[dict[str, Any]]] = {}
    for shown in facts.evaluation["singles"]:
        by_task.setdefault(shown["task"], []).append(shown)
    order = [group[i] for i in range(2) for group in by_task.values() if len(group) > i][:STRIP]
    return [
        {
            "uri": embed.uri(folder / shown["file"]),
            "prompt": shown["prompt"].removeprefix("a photo of "),
            "right": bool(facts.verdicts.get(shown["sample"], {}).get("geneval", {}).get("verdict")),
        }
        for shown in order
    ]


def _line(facts: Facts) -> list[dict[str, Any]]:
    longest = max((p.record.seconds for p in facts.pieces if p.record), default=1.0)
    return [
        {
            "stage": piece.stage,
            "phase": piece.phase,
            "state": "done" if piece.current else ("stale" if piece.record else "not run"),
            "wall": table.duration(piece.record.seconds) if piece.record else "",
            "share": round(100 * piece.record.seconds / max(longest, 1e-9), 1) if piece.record else 0,
            "driver": piece.record.value.get("driver") if piece.record else None,
        }
        for piece in facts.pieces
    ]


def _evaluation(facts: Facts, embed: Embedder) -> dict[str, Any] | None:
    summary = facts.evaluation
    if summary is None:
        return None
    folder = facts.root / "reports/evaluation"
    height, width = summary["size"]
    sheets = []
    for task, sheet in summary["sheets"].items():
        count = -(-len(sheet["samples"]) // sheet["columns"])
        prompts: dict[str, list[dict[str, Any]]] = {}
        for place, sample in enumerate(sheet["samples"]):
            row = facts.verdicts.get(sample, {}).get("geneval")
            if row is None:
                continue
            tile = {
                "x": _percent(place % sheet["columns"], sheet["columns"]),
                "y": _percent(place // sheet["columns"], count),
                "id": sample,
                "right": row["verdict"],
                "reason": row["reason"],
                "seed": row["seed"],
            }
            prompts.setdefault(row["prompt"], []).append(tile)
        sheets.append(
            {
                "task": task,
                "uri": embed.uri(folder / sheet["file"]),
                "columns": sheet["columns"],
                "rows": count,
                "prompts": [{"text": text, "tiles": tiles} for text, tiles in prompts.items()],
            }
        )
    clips = [
        {
            "uri": embed.uri(folder / shown["file"]),
            "prompt": shown["prompt"],
            "kind": "from a first picture" if shown["sample"].startswith("i2v") else "from text",
            "direction": facts.verdicts.get(shown["sample"], {}).get("direction", {}),
        }
        for shown in summary["clip_files"]
    ]
    return {
        "overall": summary["overall"],
        "tasks": [{"name": name, **summary["tasks"][name]} for name in summary["sheets"]],
        "clips": summary["clips"],
        "clip_files": clips,
        "judge": summary["judge"],
        "counts": summary["counts"],
        "protocol": summary["protocol"],
        "page": "evaluation/evaluation.html" if (folder / "evaluation.html").is_file() else "",
        "sheets": sheets,
        "aspect": f"{width} / {height}",
    }


def _percent(place: int, of: int) -> float:
    """Position of a tile in a sheet as CSS counts it: 0 % is the first, 100 % the last."""
    return round(100 * place / (of - 1), 4) if of > 1 else 0.0


def _phase(phase: Phase, facts: Facts, embed: Embedder) -> dict[str, Any]:
    logged = [entry for entry in phase.metrics if "loss" in entry]
    steps, losses = [float(e["step"]) for e in logged], [float(e["loss"]) for e in logged]
    shown = []
    for sample in phase.samples:
        place = phase.folder / "samples" / Path(sample["file"]).name
        shown.append(
            {
                "uri": embed.uri(place),
                "video": place.suffix == ".mp4",
                "prompt": sample["prompt"],
                "seed": sample.get("seed"),
            }
        )
    piece = facts.piece(f"train@{phase.name}")
    return {
        "name": phase.name,
        "curve": curve(steps, losses, f"loss of {phase.name}"),
        "steps": phase.request.get("steps") or (int(steps[-1]) if steps else None),
        "resolution": phase.request.get("resolution"),
        "init_from": phase.request.get("init_from"),
        "loss": table.tail_mean(losses) if losses else None,
        "speed": phase.report.get("samples_per_second"),
        "wall": piece.record.seconds if piece and piece.record else None,
        "samples": shown,
    }


def _vae(facts: Facts, embed: Embedder) -> dict[str, Any] | None:
    if facts.vae is None:
        return None
    folder = facts.root / "models/vae/report"
    logged = [entry for entry in facts.vae_metrics if "loss" in entry]
    return {
        "numbers": facts.vae,
        "originals": embed.uri(folder / "originals.png"),
        "reconstructions": embed.uri(folder / "reconstructions.png"),
        "clips": [uri for file in sorted(folder.glob("*.mp4")) if (uri := embed.uri(file))],
        "curve": curve([float(e["step"]) for e in logged], [float(e["loss"]) for e in logged], "loss of the VAE"),
    }


def _curation(facts: Facts, embed: Embedder) -> dict[str, Any] | None:
    funnel = facts.curation
    if funnel is None:
        return None
    folder = facts.root / "reports/curation"
    groups: dict[str, dict[str, Any]] = {}
    clips = []
    for example in funnel["examples"]:
        if example["file"].endswith(".mp4"):
            clips.append({"uri": embed.uri(folder / example["file"]), "caption": example["caption"] or ""})
            continue
        kept = example["outcome"] == "kept"
        name = "kept" if kept else example["filter"]
        group = groups.setdefault(name, {"name": name, "kept": kept, "frames": []})
        if len(group["frames"]) < (8 if kept else EXAMPLES_PER_REASON):
            text = example["caption"] if kept else example["message"]
            group["frames"].append({"uri": embed.photo(folder / example["file"], 256), "text": text or ""})
    total = funnel["total"]
    return {
        "raw": facts.raw,
        "total": total,
        "why": funnel["why"],
        "most": max([1, *(w["count"] for w in funnel["why"])]),
        "kept": groups.get("kept", {"frames": []})["frames"],
        "rejected": [group for group in groups.values() if not group["kept"]],
        "clips": [clip for clip in clips if clip["uri"]],
        "validation": _validation(facts.validation),
        "left_out": funnel.get("left_out", {}),
    }


def _validation(found: Any) -> dict[str, Any] | None:
    if not isinstance(found, dict):
        return None
    results = found.get("results") or found.get("expectations") or []
    passed = sum(bool(r.get("success")) for r in results)
    return {"success": bool(found.get("success")), "passed": passed, "of": len(results)}


def _comparisons(root: Path, embed: Embedder) -> list[dict[str, Any]]:
    """Ablations and studies of parameters: what `goku ablate` and `goku tune` left in reports."""
    entries = []
    for file in [
        file for kind in ("ablations", "tune") for file in sorted((root / "reports" / kind).glob("*/facts.json"))
    ]:
        entry = json.loads(file.read_text(encoding="utf-8"))["found"]
        pictures = [embed.uri(file.parent / name) for name in entry["pictures"][:2]]
        entries.append(entry | {"pictures": [uri for uri in pictures if uri]})
    return entries


def _lineage(facts: Facts) -> list[dict[str, Any]]:
    lines = []
    for piece in facts.pieces:
        if piece.record is None:
            continue
        value = piece.record.value
        git = value.get("git") or {}
        lines.append(
            {
                "cell": piece.name,
                "fingerprint": piece.record.fingerprint[:12],
                "inputs": [(path, content["digest"][:10]) for path, content in value["inputs"].items()],
                "outputs": [(path, digest[:10]) for path, digest in piece.record.output_digests().items()],
                "commit": str(git.get("commit") or "")[:10],
                "dirty": bool(git.get("dirty")),
                "driver": value.get("driver"),
                "finished": str(value.get("finished", ""))[:16].replace("T", " "),
            }
        )
    return lines
