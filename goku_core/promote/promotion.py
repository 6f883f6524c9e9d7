"""The stage body: bundle, gate, ledger, mirror, report; and the two decisions that people take by hand."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from pydantic import BaseModel

from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle, evidence, gate, ledger, registry, signature
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
    approvers: list[str] = []  # of an awaiting candidate: who may approve it


def promote(request: Request, context: Context) -> Report:
    """Decide about the models in the workspace. Repeating it adds nothing: it is settled by digests.

    Killed anywhere, the next call ends with the same ledger, registry and report: the ledger entry is the decision, and
    everything after it is made again from the ledger.
    """
    proof = evidence.read(context.input(evidence.FOLDER))
    demanded = signature.trusted(context.workspace, request.trusted_keys)
    signer = signature.signer()
    if demanded and request.gate.approver is None and (signer is None or signer.public not in demanded):
        raise GokuError(
            f"promote.trusted_keys demands a signature, and {signature.VARIABLE} names no key that is trusted. Name one, "
            "or let a person sign and approve (promote.gate.approver, `goku registry sign VERSION`)."
        )
    digest, faults = _bundled(request, context, proof)
    if signer is not None and not faults:
        signature.sign(context.workspace, digest, signer)
    rules = ledger.keep_gate(context.workspace, request.gate.model_dump(mode="json"))
    ledger.append(
        context.workspace,
        lambda entries: gate.decide(
            request.gate, proof, digest, faults, entries, _past(context.workspace, ledger.champion(entries))
        ),
    )
    entry = gate.settled(ledger.read(context.workspace), digest, proof.digest, rules)
    if entry is None:
        raise GokuError("The champion changed while the candidate was judged. Run `goku run promote` again.")
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
        approvers=(request.gate.approver or []) if entry.decision == "awaiting" else [],
    )
    context.output(OUTPUT).write_text(
        json.dumps(report.model_dump(mode="json"), indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    context.tracker.log_metrics({"score": proof.score, "version": float(entry.version)})
    context.tracker.set_tags({"goku.bundle": digest, "goku.decision": entry.decision})
    context.say(f"version {entry.version} ({digest[:12]}) {entry.decision}: {entry.reason}")
    return report


def _bundled(
    request: Request, context: Context, proof: evidence.Evidence, only: str | None = None
) -> tuple[str, list[str]]:
    """The digest of the bundle of the models in the workspace, and why the evidence is not about its bytes.

    Where it is about them the bundle lies at its place; bytes that nothing vouches for are not kept where somebody could
    serve them. only: nor is any other than the bundle of this digest.
    """
    phases = request.phases()
    folders = {phase: context.input(f"models/{phase}") for phase in phases.values()}
    vae = context.input("models/vae")
    for folder in (*folders.values(), vae):
        if not (folder / bundle.WEIGHTS).is_file():
            raise GokuError(f"{folder / bundle.WEIGHTS} is missing: `goku run` makes it.")
    context.say(f"bundling {', '.join(sorted(set(phases.values())))} and the VAE")
    partial = context.scratch / "bundle"
    try:
        gathered = bundle.gather(partial, {task: folders[phase] for task, phase in phases.items()}, vae)
        to_promote = {phase: gathered.weights(folder) for phase, folder in folders.items()}
        vae_digest = gathered.weights(vae)
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
        return bundle.seal(context.workspace, gathered, lineage, keep=not faults, only=only), faults
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def repair(request: Request, workspace: Path, digest: str) -> bool:
    """Make a bundle again that is damaged or gone, from the models in the workspace; False where nothing was wrong.

    For a decision that stands: the ledger stays as it is. Raises GokuError where the models are not that bundle's.
    """
    try:
        bundle.verify(bundle.location(workspace, digest), digest)
        return False
    except GokuError:
        with tempfile.TemporaryDirectory(dir=workspace / ".goku", prefix="repair-") as place:
            context = Context(workspace, Path(place, "staging"), Path(place, "scratch"))
            made, _ = _bundled(request, context, evidence.read(workspace / evidence.FOLDER), only=digest)
    if made != digest:
        raise GokuError(
            f"The models and the evaluation in {workspace} make bundle {made[:12]}, not {digest[:12]}. Restore "
            f"{bundle.location(workspace, digest)} from a copy, or go back to another version (`goku rollback`)."
        )
    registry.mirror(workspace, request.registry_name, request.alias)
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
        return _by_hand(workspace, request, target, "rolled-back", line[-1].bundle, reason)

    return _written(workspace, request, ledger.append(workspace, draft))


def promote_by_hand(workspace: Path, request: Request, version: int, because: str, by: str | None = None) -> Entry:
    """Make a registered candidate champion although the gate refused it; the ledger says who and why.

    Where the gate names approvers only one of them may overrule it. by: whose decision it is; None: git's user.
    """
    if request.gate.approver is not None:
        _entitled(request, by)

    def draft(entries: list[Entry]) -> Draft:
        candidate = _known(entries, version)
        standing = ledger.champion(entries)
        if standing is not None and standing.bundle == candidate.bundle:
            raise GokuError(f"Version {version} is the champion already.")
        against = standing.bundle if standing else None
        return _by_hand(workspace, request, candidate, "promoted", against, f"by hand: {because}", by=by)

    return _written(workspace, request, ledger.append(workspace, draft))


def approve(workspace: Path, request: Request, version: int, by: str, because: str) -> Entry:
    """Make a candidate champion that met every rule and waits for a person.

    Raises GokuError where it does not wait, where `by` may not approve, and where what was to be approved is no longer
    what there is: another champion, other rules, an evaluation that was made again or is gone, changed bytes, a
    signature that is demanded and missing. `by` is taken at its word: who may write to the ledger's folder is a matter
    of its permissions.
    """
    _entitled(request, by)

    def draft(entries: list[Entry]) -> Draft:
        candidate = _waiting(entries, version)
        standing = ledger.champion(entries)
        again = "Run `goku promote` again."
        if (standing.bundle if standing else None) != candidate.against:
            now = f"version {standing.version}" if standing else "nobody"
            raise GokuError(f"Version {version} was judged against another champion; now it is {now}. {again}")
        if candidate.gate != ledger.gate_digest(request.gate.model_dump(mode="json")):
            raise GokuError(f"promote.gate was changed since version {version} was judged. {again}")
        if reason := evidence.outdated(workspace, candidate.evidence):
            raise GokuError(f"Version {version}: {reason} {again}")
        reason = f"approved by {by}: {because}" if because else f"approved by {by}"
        return _by_hand(
            workspace, request, candidate, "promoted", candidate.against, reason, by, candidate.gate, candidate.number
        )

    return _written(workspace, request, ledger.append(workspace, draft))


def decline(workspace: Path, request: Request, version: int, by: str, because: str) -> Entry:
    """Refuse a candidate that waits for a person. Raises GokuError where it does not wait, or `by` may not say so."""
    _entitled(request, by)

    def draft(entries: list[Entry]) -> Draft:
        candidate = _waiting(entries, version)
        standing = ledger.champion(entries)
        facts = candidate.model_dump(include={"bundle", "against", "score", "interval", "protocol", "evidence", "gate"})
        reason = f"declined by {by}: {because}" if because else f"declined by {by}"
        return Draft(
            decision="refused",
            champion=standing.bundle if standing else None,
            reason=reason,
            by=by,
            answers=candidate.number,
            **facts,
        )

    return _written(workspace, request, ledger.append(workspace, draft))


def resolve(workspace: Path, name: str, alias: str = "champion", signed: bool = True) -> tuple[Path, str]:
    """Bundle folder and digest for a name: `champion` (or its `alias` in MLflow), `previous`, `challenger`, version number,
    12+ digits of a digest.

    Reads the ledger only, never MLflow. Raises GokuError where there is no such bundle, where its files were changed, and
    where its signature is wrong, or missing although promote.trusted_keys demands one (signed=False: who is about to
    sign it looks at the bytes alone).
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
    if signed:
        signature.check(folder, digest, signature.trusted(workspace))
    return folder, digest


def named(entries: list[Entry], name: str, alias: str = "champion") -> str:
    """The digest that a name stands for in a ledger; names as for `resolve`. Raises GokuError where there is no such bundle."""
    digest = ledger.roles(entries).get("champion" if name == alias else name)
    if digest is None and name.isdigit() and len(name) < 12:
        digest = _known(entries, int(name)).bundle
    if digest is None and len(name) >= 12:
        digest = next((e.bundle for e in entries if e.bundle.startswith(name)), None)
    if digest is None:
        known = ", ".join(str(v) for v in sorted({e.version for e in entries}))
        raise GokuError(
            f"No model {name!r}. Known: champion, previous, challenger (where there is one), versions {known}, or a "
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


def _entitled(request: Request, by: str | None) -> None:
    """Raises GokuError unless the gate lets this person decide."""
    if request.gate.approver is None:
        raise GokuError("promote.gate.approver names nobody, so nothing waits for approval. Run `goku promote`.")
    if by not in request.gate.approver:
        allowed = ", ".join(request.gate.approver)
        who = f"{by} may not decide this" if by else "This is not for everybody to decide"
        raise GokuError(f"{who}: promote.gate.approver names {allowed}. One of them gives --by NAME.")


def _waiting(entries: list[Entry], version: int) -> Entry:
    waiting = ledger.awaiting(entries)
    found = next((entry for entry in waiting if entry.version == version), None)
    if found is None:
        others = ", ".join(str(entry.version) for entry in waiting) or "none"
        last = _known(entries, version)
        raise GokuError(f"Version {version} does not wait for approval, it is {last.decision}. Waiting: {others}.")
    return found


def _past(workspace: Path, standing: Entry | None) -> evidence.Past:
    """What is still known of the champion's evaluation: its records are named by the manifest of its bundle."""
    if standing is None:
        return evidence.Past()
    manifest = bundle.location(workspace, standing.bundle) / bundle.MANIFEST
    files: dict[str, str] = {}
    if manifest.is_file() and bundle.sha256(manifest) == standing.bundle:
        files = json.loads(manifest.read_text(encoding="utf-8")).get("lineage", {}).get("evaluation", {})
    return evidence.past(workspace, standing.evidence, files)


def _by_hand(
    workspace: Path,
    request: Request,
    target: Entry,
    decision: ledger.Decision,
    against: str | None,
    reason: str,
    by: str | None = None,
    gate: str | None = None,
    answers: int | None = None,
) -> Draft:
    folder = bundle.location(workspace, target.bundle)
    bundle.verify(folder, target.bundle)
    signature.check(folder, target.bundle, signature.trusted(workspace, request.trusted_keys))
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
        by=by,
        gate=gate,
        answers=answers,
    )


def _written(workspace: Path, request: Request, entry: Entry | None) -> Entry:
    if entry is None:
        raise GokuError("Nothing was written to the ledger.")
    registry.mirror(workspace, request.registry_name, request.alias)
    return entry
