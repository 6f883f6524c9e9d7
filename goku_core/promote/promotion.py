"""The stage body: bundle, gate, ledger, mirror, report; and the two decisions that people take by hand."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from pydantic import BaseModel

from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle, evidence, gate, ledger, registry
from goku_core.promote.ledger import Draft, Entry
from goku_core.promote.request import Request

OUTPUT = "reports/promotion.json"


class Report(BaseModel):
    """What `promote` did. `version` counts bundles in the ledger; score and interval are overall, 0 to 1."""

    decision: ledger.Decision
    reason: str
    version: int
    digest: str
    alias: str
    champion: str | None
    score: float
    interval: tuple[float, float]
    kept: bool  # false: the evidence is about other bytes, so the bundle was not kept


def promote(request: Request, context: Context) -> Report:
    """Decide about the models in the workspace. Repeating it adds nothing: it is settled by digests.

    Killed anywhere, the next call ends with the same ledger, registry and report: the ledger entry is the decision, and
    everything after it is made again from the ledger.
    """
    proof = evidence.read(context.input(evidence.FOLDER))
    phases = request.phases()
    folders = {phase: context.input(f"models/{phase}") for phase in phases.values()}
    vae = context.input("models/vae")
    for folder in (*folders.values(), vae):
        if not (folder / bundle.WEIGHTS).is_file():
            raise GokuError(f"{folder / bundle.WEIGHTS} is missing: `goku run` makes it.")
    to_promote = {phase: bundle.sha256(folder / bundle.WEIGHTS) for phase, folder in folders.items()}
    vae_digest = bundle.sha256(vae / bundle.WEIGHTS)
    faults = evidence.mismatches(proof, to_promote, vae_digest)
    lineage = {
        "phases": phases,
        "models": to_promote,
        "vae": vae_digest,
        "evaluation": proof.files,
        "score": proof.score,
        "interval": list(proof.interval),
        "protocol": proof.protocol,
    }
    context.say(f"bundling {', '.join(sorted(set(phases.values())))} and the VAE")
    digest = bundle.build(
        context.workspace,
        context.scratch / "bundle",
        {task: folders[phase] for task, phase in phases.items()},
        vae,
        lineage,
    )
    ledger.append(context.workspace, lambda entries: gate.decide(request.gate, proof, digest, faults, entries))
    entry = gate.settled(ledger.read(context.workspace), digest, proof.digest)
    if entry is None:
        raise GokuError("The champion changed while the candidate was judged. Run `goku run promote` again.")
    if faults:  # bytes that nothing vouches for are not kept where somebody could serve them
        shutil.rmtree(bundle.location(context.workspace, digest))
    registry.mirror(context.workspace, request.registry_name, request.alias)
    report = Report(
        decision=entry.decision,
        reason=entry.reason,
        version=entry.version,
        digest=digest,
        alias=request.alias,
        champion=entry.champion,
        score=proof.score,
        interval=proof.interval,
        kept=not faults,
    )
    context.output(OUTPUT).write_text(
        json.dumps(report.model_dump(mode="json"), indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    context.tracker.log_metrics({"score": proof.score, "version": float(entry.version)})
    context.tracker.set_tags({"goku.bundle": digest, "goku.decision": entry.decision})
    context.say(f"version {entry.version} ({digest[:12]}) {entry.decision}: {entry.reason}")
    return report


def repair(request: Request, workspace: Path, digest: str) -> bool:
    """Make a bundle again that is damaged or gone, from the models in the workspace; False where nothing was wrong.

    For a decision that stands: the ledger stays as it is. Raises GokuError where the models are not that bundle's.
    """
    try:
        bundle.verify(bundle.location(workspace, digest), digest)
        return False
    except GokuError:
        with tempfile.TemporaryDirectory(dir=workspace / ".goku", prefix="repair-") as place:
            staging, scratch = Path(place, "staging"), Path(place, "scratch")
            report = promote(request, Context(workspace, staging, scratch))
    if report.digest != digest:
        raise GokuError(f"The models in {workspace / 'models'} make bundle {report.digest[:12]}, not {digest[:12]}.")
    return True


def rollback(workspace: Path, request: Request, to: int | None, because: str) -> Entry:
    """Make an earlier champion the champion again: the one before the present, or version `to`."""

    def draft(entries: list[Entry]) -> Draft:
        line = ledger.champions(entries)
        if not line:
            raise GokuError("There is no champion to roll back from. `goku registry history` shows the ledger.")
        if to is None and len(line) < 2:
            raise GokuError(f"Version {line[-1].version} is the first champion; there is none before it to go back to.")
        target = line[-2] if to is None else _promoted(entries, to)
        if target.bundle == line[-1].bundle:
            raise GokuError(f"Version {target.version} is the champion already.")
        reason = because or f"back from version {line[-1].version}"
        return _by_hand(workspace, target, "rolled-back", line[-1].bundle, reason)

    return _written(workspace, request, ledger.append(workspace, draft))


def promote_by_hand(workspace: Path, request: Request, version: int, because: str) -> Entry:
    """Make a registered candidate champion although the gate refused it; the ledger says who and why."""

    def draft(entries: list[Entry]) -> Draft:
        candidate = _known(entries, version)
        standing = ledger.champion(entries)
        if standing is not None and standing.bundle == candidate.bundle:
            raise GokuError(f"Version {version} is the champion already.")
        against = standing.bundle if standing else None
        return _by_hand(workspace, candidate, "promoted", against, f"by hand: {because}")

    return _written(workspace, request, ledger.append(workspace, draft))


def resolve(workspace: Path, name: str, alias: str = "champion") -> tuple[Path, str]:
    """Bundle folder and digest for a name: alias, `previous`, `challenger`, version number, 12+ digits of a digest.

    Reads the ledger only, never MLflow. Raises GokuError where there is no such bundle or its files were changed.
    """
    entries = ledger.read(workspace)
    if not entries:
        raise GokuError(
            f"No model has been promoted in {workspace} yet. "
            "`make demo` or `goku run` trains, evaluates and promotes one."
        )
    digest = named(entries, name, alias)
    folder = bundle.location(workspace, digest)
    if not folder.is_dir():
        raise GokuError(
            f"{folder} is missing although the ledger knows it. Restore it from a copy, or run `goku promote` where "
            "models/ still holds its weights."
        )
    bundle.verify(folder, digest)
    return folder, digest


def named(entries: list[Entry], name: str, alias: str = "champion") -> str:
    """The digest that a name stands for in a ledger; names as for `resolve`. Raises GokuError where there is no such bundle."""
    digest = ledger.roles(entries, alias).get(name)
    if digest is None and name.isdigit() and len(name) < 12:
        digest = _known(entries, int(name)).bundle
    if digest is None and len(name) >= 12:
        digest = next((e.bundle for e in entries if e.bundle.startswith(name)), None)
    if digest is None:
        known = ", ".join(str(v) for v in sorted({e.version for e in entries}))
        raise GokuError(
            f"No model {name!r}. Known: {alias}, previous, challenger (where there is one), versions {known}, or a "
            "bundle's folder."
        )
    return digest


def _known(entries: list[Entry], version: int) -> Entry:
    found = [entry for entry in entries if entry.version == version and entry.decision != "rolled-back"]
    if not found:
        raise GokuError(f"The ledger has no version {version}. `goku registry ls` lists them.")
    return found[-1]


def _promoted(entries: list[Entry], version: int) -> Entry:
    known = _known(entries, version)
    if not any(e.decision == "promoted" and e.bundle == known.bundle for e in entries):
        raise GokuError(
            f"Version {version} has never been champion. "
            f"`goku promote --by-hand {version} --because REASON` makes it so."
        )
    return known


def _by_hand(workspace: Path, target: Entry, decision: ledger.Decision, against: str | None, reason: str) -> Draft:
    bundle.verify(bundle.location(workspace, target.bundle), target.bundle)
    return Draft(
        decision=decision,
        bundle=target.bundle,
        champion=target.bundle,
        against=against,
        score=target.score,
        interval=target.interval,
        protocol=target.protocol,
        evidence=target.evidence,
        reason=reason,
    )


def _written(workspace: Path, request: Request, entry: Entry | None) -> Entry:
    if entry is None:
        raise GokuError("Nothing was written to the ledger.")
    registry.mirror(workspace, request.registry_name, request.alias)
    return entry
