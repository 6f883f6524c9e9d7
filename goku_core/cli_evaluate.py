"""`goku evaluate`: plan what is to be drawn, draw it, take samples in and out of the benchmarks' own folders."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.progress import Bar

if TYPE_CHECKING:
    from goku_core.evaluate.manifest import Prompt, Sample
    from goku_core.evaluate.rewriting.rewriting import Rewriting
    from goku_core.references import Model

evaluate = typer.Typer(help="Evaluate models of pictures and clips, ours and others'.", no_args_is_help=True)
COMMAND_MODULES = (
    "goku_core.cli_judge",
    "goku_core.cli_compare",
    "goku_core.cli_results",
    "goku_core.cli_frechet",
    "goku_core.cli_reevaluate",
)
"""Modules whose `register` adds further commands."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output")]
Which = Annotated[str, typer.Argument(metavar="BENCHMARK", help="geneval, vbench, vbench2, dpg or compbench")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The evaluation's folder")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The evaluation's folder")]
SuiteName = Annotated[
    str | None,
    typer.Option(metavar="DIR|URL|grammar", help="The benchmark's prompt files, or those of the sample corpus"),
]
PerPrompt = Annotated[int | None, typer.Option(min=1, help="Samples of each prompt [default: as the protocol says]")]
Limit = Annotated[int | None, typer.Option(min=1, help="So many prompts, evenly spread over the suite")]
Words = Annotated[
    Path | None,
    typer.Option("--rewriting", metavar="FILE", help="rewriting.parquet, or published words aligned by line (.txt)"),
]
Link = Annotated[bool, typer.Option("--link", help="Hard links instead of copies")]
REWRITING = "rewriting.parquet"
MODEL_HELP = "champion, a version, a bundle's digest or folder, models/PHASE, or the fingerprint of a training"


@evaluate.command("plan")
def plan(
    benchmark: Which,
    out: Out,
    suite: SuiteName = "grammar",
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    per_prompt: PerPrompt = None,
    limit: Limit = None,
    height: Annotated[int | None, typer.Option(min=16, help="px [default: the model's]")] = None,
    width: Annotated[int | None, typer.Option(min=16, help="px [default: the model's]")] = None,
    frames: Annotated[int | None, typer.Option(min=5, help="Frames of a clip [default: the model's]")] = None,
    fps: Annotated[float | None, typer.Option(min=0.1, help="Playback rate [default: the model's]")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps [default: the model's]")] = None,
    guidance: Annotated[float | None, typer.Option(min=0.0, help="1 is none [default: the model's]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Every sample has a seed of its own, made of this and its id")] = 0,
    rewriting: Words = None,
    as_json: Json = False,
) -> None:
    """Say what is to be drawn: every sample with its prompt, seed and settings. Loads no network.

    Examples: goku evaluate plan geneval --suite grammar --out eval/mine · goku evaluate plan vbench --suite prompts/vbench
    --model champion --rewriting prompts/vbench/augmented/gpt4o_all_dimension_longer.txt --out eval/longer
    """
    from goku_core.evaluate import planning
    from goku_core.evaluate.manifest import Drawing
    from goku_core.evaluate.suites.suite import format_named, open_suite, spread

    module = format_named(benchmark)
    if module.MEDIA == "image" and (frames or fps):
        raise GokuError(f"{benchmark} is about pictures: --frames and --fps have no meaning there.")
    opened = open_suite(benchmark, suite or "grammar", out)
    prompts = spread(opened.prompts, limit)
    words = _rewriting(rewriting, opened.prompts, prompts)
    drawing = Drawing(
        _located(model).digest if model else "",
        words.label if words else "",
        height,
        width,
        frames,
        fps,
        steps,
        guidance,
    )
    samples = planning.planned(
        benchmark,
        module.MEDIA,
        prompts,
        per_prompt or module.per_prompt,
        seed,
        drawing,
        dict(words.words) if words else None,
    )
    new = planning.settle(out, samples)
    opened.write(out)
    if words:
        words.write(out / REWRITING)
    facts = {
        "folder": str(out),
        "benchmark": benchmark,
        "new": new,
        "prompts": len(prompts),
        "of_prompts": len(opened.prompts),
        "samples": len(samples),
        "rewriting": drawing.rewriting,
        "model": drawing.model,
        "licence": opened.licence,
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    part = f" of {len(opened.prompts)}" if len(prompts) < len(opened.prompts) else ""
    typer.echo(
        f"{out}: {len(samples)} samples of {len(prompts)}{part} prompts"
        + (f", rewritten ({drawing.rewriting})" if words else "")
        + ("" if new else ", planned before")
    )
    typer.echo(f"{opened.notice}; licence: {opened.licence}")


@evaluate.command("sample")
def sample(
    folder: Folder,
    model: Annotated[str | None, typer.Option(help=f"{MODEL_HELP} [default: the plan's]")] = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Draw part I of N; any machine may draw any part")] = "1/1",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples that go through the network together; the same for all parts")
    ] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda or cuda:N")] = "auto",
    as_json: Json = False,
) -> None:
    """Draw the planned samples that are not there yet. Goes on where it was stopped, and ends with the same bytes.

    Examples: goku evaluate sample eval/mine --model champion · goku evaluate sample eval/mine --shard 2/4
    """
    from goku_core.evaluate import manifest, planning, sampling

    part = sampling.Shard.of_text(shard)
    samples = manifest.read(folder / planning.MANIFEST)
    name = model or next((s.drawing.model for s in samples if s.drawing.model), None)
    if name is None:
        raise GokuError(f"{folder} was planned without a model: name one with --model.")
    found = _located(name) if model else _planned_model(name)
    if not samples[0].drawing.model and sampling.drawn(folder, samples) and not (folder / sampling.RUN_FILE).is_file():
        raise GokuError(f"{folder} holds samples that came from elsewhere: draw with a model in a folder of its own.")
    samples = planning.bind(folder, samples, found.digest)
    run = sampling.settled(folder, sampling.Run(found.digest, batch) if batch else None, found.digest)
    generator = found.open("t2i" if samples[0].media == "image" else "t2v", device)
    if generator.model.config.image_condition:
        raise GokuError(f"{name} continues a given picture, and this benchmark gives none: name a model of text alone.")
    groups = list(sampling.groups(samples, run.batch))
    own = sum(len(group) for number, group in enumerate(groups) if number % part.of == part.number - 1)
    with Bar(f"evaluate: sample {shard}", own, "samples") as bar:
        written = sampling.draw_manifest(folder, samples, generator, run.batch, part, bar.advance)
    there = len(sampling.drawn(folder, samples))
    facts = {"folder": str(folder), "written": written, "drawn": there, "samples": len(samples), "batch": run.batch}
    _say(facts, f"{folder}: {written} samples drawn now, {there} of {len(samples)} are there", as_json)


@evaluate.command("import")
def take_in(
    benchmark: Annotated[str, typer.Argument(metavar="BENCHMARK", help="As for plan; also imagenet, ucf101")],
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures or clips in the benchmark's layout")],
    out: Out,
    suite: SuiteName = None,
    per_prompt: PerPrompt = None,
    limit: Limit = None,
    rewriting: Words = None,
    link: Link = False,
    as_json: Json = False,
) -> None:
    """Take in samples that were made elsewhere, in the benchmark's own folders and file names. Plans where nothing is planned.

    Example: goku evaluate import geneval outputs/geneval --out eval/mine
    """
    from goku_core.evaluate import manifest, planning
    from goku_core.evaluate.layouts import intake

    if not source.is_dir():
        raise GokuError(f"{source}: there is no such folder.")
    place = out / planning.MANIFEST
    if suite is None and rewriting is None and place.is_file():
        samples = manifest.read(place)
        if {s.benchmark for s in samples} != {benchmark}:
            raise GokuError(f"{place} is a plan for {samples[0].benchmark}, not for {benchmark}.")
    else:
        samples = _plan_for(benchmark, source, out, suite, per_prompt, limit, rewriting)
    with Bar(f"evaluate: import {benchmark}", len(samples), "samples") as bar:
        taken = intake.take_in(source, out, samples, link, bar.advance)
    facts = {
        "folder": str(out),
        "taken": taken.taken,
        "kept": taken.kept,
        "samples": len(samples),
        "surplus": list(taken.surplus),
    }
    more = f"; {len(taken.surplus)} files are no sample, for example {taken.surplus[0]}" if taken.surplus else ""
    _say(facts, f"{out}: {taken.taken} samples taken in, {taken.kept} were there{more}", as_json)


@evaluate.command("export")
def export(
    folder: Folder,
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the official layout is written")],
    safe_names: Annotated[
        bool, typer.Option("--safe-names", help="Samples whose name no file can have go to by-id/<sample id>")
    ] = False,
    link: Link = False,
    as_json: Json = False,
) -> None:
    """Write the samples as the benchmark's own code wants to find them.

    Example: goku evaluate export eval/mine outputs/vbench
    """
    from goku_core.evaluate import manifest, planning
    from goku_core.evaluate.layouts.export import export as write

    samples = manifest.read(folder / planning.MANIFEST)
    with Bar(f"evaluate: export {samples[0].benchmark}", len(samples), "samples") as bar:
        done = write(folder, target, samples, safe_names, link, bar.advance)
    facts = {"folder": str(target), "files": done.files, "kept": done.kept, "by_id": list(done.by_id)}
    more = f", {len(done.by_id)} under by-id" if done.by_id else ""
    _say(facts, f"{target}: {done.files} files written, {done.kept} were there{more}", as_json)


@evaluate.command("rewrite")
def rewrite(
    folder: Folder,
    url: Annotated[str, typer.Option(help="OpenAI-compatible server: what stands before /chat/completions")],
    model: Annotated[str, typer.Option(help="Name of the language model there")],
    key_variable: Annotated[str, typer.Option(help="Environment variable with the API key, never the key")] = "",
    template: Annotated[
        Path | None, typer.Option(help="What the model is told, Jinja with {{ prompt }} [default: ours]")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at a time")] = 16,
    as_json: Json = False,
) -> None:
    """Have a language model rewrite the prompts of a plan, meaning kept and detail added; plan again with --rewriting.

    Example: goku evaluate rewrite eval/mine --url http://127.0.0.1:8000/v1 --model Qwen3-32B
    """
    from goku_core.evaluate import manifest, planning
    from goku_core.evaluate.rewriting import ask

    samples = manifest.read(folder / planning.MANIFEST)
    if samples[0].drawing.rewriting:
        raise GokuError(f"{folder} is planned with a rewriting already: name the folder of the plain plan.")
    prompts = list({s.prompt.prompt_id: s.prompt for s in samples}.values())
    told = ask.Template(template or ask.own_template(samples[0].media))
    writer = ask.Writer(model, url, key_variable, concurrency=concurrency)
    with Bar("evaluate: rewrite", len(prompts), "prompts") as bar:
        made = ask.rewrite(prompts, writer, told, folder, bar.advance)
    place = folder / REWRITING
    made.write(place)
    facts = {"file": str(place), "prompts": len(prompts), "label": made.label}
    _say(facts, f"{place}: {len(prompts)} prompts rewritten, label {made.label}", as_json)


@evaluate.command("status")
def status(folder: Folder, as_json: Json = False) -> None:
    """Say how many samples are planned, drawn and judged.

    Example: goku evaluate status eval/mine
    """
    from goku_core.evaluate import manifest, planning, records, sampling

    samples = manifest.read(folder / planning.MANIFEST)
    drawn = sampling.drawn(folder, samples)
    wanted = {(s.sample_id, d) for s in samples for d in s.prompt.dimensions}
    rows = records.RecordStore(folder / "records").rows() if (folder / "records").is_dir() else []
    judged = wanted & {(row.sample_id, row.dimension) for row in rows}
    dimensions = {d: {"planned": 0, "judged": 0} for d in sorted({d for _, d in wanted})}
    for _, dimension in wanted:
        dimensions[dimension]["planned"] += 1
    for _, dimension in judged:
        dimensions[dimension]["judged"] += 1
    facts = {
        "folder": str(folder),
        "benchmark": samples[0].benchmark,
        "prompts": len({s.prompt.prompt_id for s in samples}),
        "planned": len(samples),
        "drawn": len(drawn),
        "model": samples[0].drawing.model,
        "rewriting": samples[0].drawing.rewriting,
        "dimensions": dimensions,
    }
    lines = [f"{folder}: {samples[0].benchmark}, {len(drawn)} of {len(samples)} samples drawn"]
    lines += [f"  {name:<24}{counts['judged']} of {counts['planned']} judged" for name, counts in dimensions.items()]
    _say(facts, "\n".join(lines), as_json)


def _say(facts: dict[str, Any], text: str, as_json: bool) -> None:
    typer.echo(json.dumps(facts, ensure_ascii=False) if as_json else text)


def _located(name: str) -> Model:
    from goku_core.references import locate

    return locate(Path.cwd(), name)


def _planned_model(digest: str) -> Model:
    """The model of a plan: one the workspace knows by its digest, or a folder below models."""
    folders = [path.parent for path in sorted(Path("models").glob("*/model.safetensors")) if path.parent.name != "vae"]
    for folder in folders:
        if (folder / "config.json").is_file() and (found := _located(str(folder))).digest == digest:
            return found
    return _located(digest)


def _rewriting(file: Path | None, suite: Sequence[Prompt], prompts: Sequence[Prompt]) -> Rewriting | None:
    if file is None:
        return None
    from goku_core.evaluate.rewriting.rewriting import read

    entries = sum(len(prompt.metadata.get("entries", (0,))) for prompt in suite)
    return read(file, suite, entries).for_prompts(prompts)


def _plan_for(
    benchmark: str,
    source: Path,
    out: Path,
    suite: str | None,
    per_prompt: int | None,
    limit: int | None,
    rewriting: Path | None,
) -> list[Sample]:
    """A plan for samples that exist: of the suite that is named, or of what the layout itself says about prompts."""
    from goku_core.evaluate import planning
    from goku_core.evaluate.layouts import intake, names
    from goku_core.evaluate.manifest import Drawing, read
    from goku_core.evaluate.suites.suite import Suite, format_named, open_suite, spread

    if suite:
        opened = open_suite(benchmark, suite, out)
    elif prompts := intake.prompts_there(benchmark, source):
        told = f"prompts as the samples' own folder has them ({source.name})"
        opened = Suite(benchmark, str(source), source, prompts, (), "not known", told)
    else:
        raise GokuError(f"{source} says nothing about its prompts: name the benchmark's prompt files with --suite.")
    if benchmark in names.SETS:
        media, counts = names.SETS[benchmark], 1
    else:
        module = format_named(benchmark)
        media, counts = module.MEDIA, per_prompt or module.per_prompt
    prompts = spread(opened.prompts, limit)
    words = _rewriting(rewriting, opened.prompts, prompts)
    drawing = Drawing(rewriting=words.label if words else "")
    samples = planning.planned(benchmark, media, prompts, counts, 0, drawing, dict(words.words) if words else None)
    # Before the plan is written: one that the folder does not fit would stand in the way.
    intake.matched(source, samples)
    planning.settle(out, samples)
    opened.write(out)
    if words:
        words.write(out / REWRITING)
    return read(out / planning.MANIFEST)


def _add_commands() -> None:
    for name in COMMAND_MODULES:
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name).register(evaluate)


_add_commands()
