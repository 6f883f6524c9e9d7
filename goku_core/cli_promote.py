"""`goku promote`, `goku rollback` and `goku registry`: which model is champion, why, and how to change that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from goku_core.config import load_params
from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.promote import Request
    from goku_core.promote.ledger import Entry

registry = typer.Typer(help="The ledger of promotions and its mirror in MLflow.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON")]
Because = Annotated[str, typer.Option(help="Why: goes into the ledger")]


def promote(
    by_hand: Annotated[
        int | None, typer.Option(metavar="VERSION", help="Make this refused version champion although the gate said no")
    ] = None,
    approve: Annotated[
        int | None, typer.Option(metavar="VERSION", help="Make this version champion, which waits for approval")
    ] = None,
    decline: Annotated[
        int | None, typer.Option(metavar="VERSION", help="Refuse this version, which waits for approval")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose decision it is, as promote.gate.approver has the name")
    ] = None,
    because: Because = "",
    as_json: Json = False,
) -> None:
    """Bundle the evaluated models, ask the gate, write the ledger, set the alias. Exit code 1 where the gate refuses.

    Example: goku promote
    Example: goku promote --approve 3 --by Ada --because "clips look right"
    """
    workspace = Path.cwd()
    asked = {"--by-hand": by_hand, "--approve": approve, "--decline": decline}
    given = {option: version for option, version in asked.items() if version is not None}
    if len(given) > 1:
        raise GokuError(f"{' and '.join(given)} exclude each other: one decision at a time.")
    if given:
        ((option, version),) = given.items()
        _decide(workspace, option, version, by, because, as_json)
        return
    from goku_core import tracking
    from goku_core.pipeline import line
    from goku_core.pipeline.executor import execute
    from goku_core.pipeline.versions.turns import shared, waits_for
    from goku_core.promote import promotion

    params = load_params(workspace / "params.yaml")
    (cell,) = line.select(line.cells(params), ["promote"])
    with shared(workspace, waits_for("goku promote")):
        outcome = execute(cell, workspace, open_tracker=tracking.opener(params.tracking))
        facts = json.loads((workspace / cell.outputs[0]).read_text(encoding="utf-8"))
        if facts["kept"] and promotion.repair(params.promote, workspace, facts["digest"]):
            typer.echo(f"bundle {facts['digest'][:12]} was damaged or gone: made again", err=True)
    if as_json:
        typer.echo(json.dumps(facts | {"status": outcome.status}))
    else:
        typer.echo(f"version {facts['version']} ({facts['digest'][:12]}) {facts['decision']}: {facts['reason']}")
    if facts["decision"] == "awaiting":
        typer.echo(
            f"`goku promote --approve {facts['version']} --by NAME --because REASON` makes it champion, `--decline` refuses it",
            err=True,
        )
    _note_another_champion(workspace, facts)
    if facts["decision"] == "refused":
        raise typer.Exit(1)


def rollback(
    to: Annotated[
        int | None, typer.Option(metavar="VERSION", help="A version that has been champion [default: the one before]")
    ] = None,
    because: Because = "",
    as_json: Json = False,
) -> None:
    """Make the previous champion champion again.

    Example: goku rollback --because "colours are off in clips"
    """
    from goku_core.promote import promotion

    workspace = Path.cwd()
    _tell(promotion.rollback(workspace, _request(workspace), to, because), as_json)


@registry.command("ls")
def ls(as_json: Json = False) -> None:
    """Versions with their scores and parts (champion, previous, challenger).

    Example: goku registry ls
    """
    from goku_core.promote import ledger

    workspace = Path.cwd()
    entries = ledger.read(workspace)
    parts: dict[str, list[str]] = {}
    for part, digest in ledger.roles(entries).items():
        if digest:
            parts.setdefault(digest, []).append(part)
    newest = {entry.version: entry for entry in entries}
    rows = [(entry, parts.get(entry.bundle, [])) for _, entry in sorted(newest.items())]
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") | {"parts": having} for entry, having in rows]))
        return
    if not rows:
        typer.echo("No model has been promoted here yet: `make demo` or `goku run` makes the first.")
        return
    table = Table("version", "part", "score (95 % interval)", "bundle", "since (UTC)", box=None, padding=(0, 2, 0, 0))
    for entry, having in rows:
        part = ", ".join(having) or entry.decision
        score = f"{entry.score:.3f} ({_interval(entry)})"
        table.add_row(str(entry.version), part, score, entry.bundle[:12], entry.time[:16].replace("T", " "))
    _print(table)


@registry.command("history")
def history(as_json: Json = False) -> None:
    """Every decision, oldest first: who, when, on what evidence, why.

    Example: goku registry history
    """
    from goku_core.promote import ledger

    entries = ledger.read(Path.cwd())
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in entries]))
        return
    for entry in entries:
        typer.echo(
            f"{entry.number:4}  {entry.time[:16].replace('T', ' ')}  {entry.decision:<11}  version {entry.version} "
            f"({entry.bundle[:12]})  {entry.score:.3f} {_interval(entry)}  by {entry.by}\n      {entry.reason}"
        )
    if not entries:
        typer.echo("The ledger is empty.")


@registry.command("verify")
def verify(as_json: Json = False) -> None:
    """Check the chain of the ledger, its rules, every bundle's bytes and signature, and that MLflow says the same.

    Exit code 1 at a fault.

    Example: goku registry verify
    """
    from goku_core.promote import bundle, ledger, signature
    from goku_core.promote import registry as mlflow_mirror

    workspace = Path.cwd()
    request = _request(workspace)
    entries = ledger.read(workspace)
    faults, checked, signed = ledger.faults_of_gates(workspace, entries), 0, 0
    trusted = signature.trusted(workspace, request.trusted_keys)
    champions = {entry.bundle for entry in ledger.champions(entries)}
    for digest in dict.fromkeys(entry.bundle for entry in entries):
        folder = bundle.location(workspace, digest)
        kept = any(e.bundle == digest and e.decision != "refused" for e in entries)
        if not folder.is_dir():
            if kept:
                faults.append(f"bundle {digest[:12]} is missing")
            continue  # evidence about other bytes: such a candidate is not kept
        try:
            bundle.verify(folder, digest)
            # a candidate may be unsigned until somebody approves it; what was champion may not
            signed += signature.check(folder, digest, trusted if digest in champions else []) is not None
        except GokuError as error:
            faults.append(str(error))
        checked += 1
    faults += mlflow_mirror.disagreements(workspace, request.registry_name, request.alias)
    if as_json:
        facts = {"entries": len(entries), "bundles": checked, "signed": signed, "demanded": bool(trusted)}
        typer.echo(json.dumps(facts | {"faults": faults}))
    else:
        for fault in faults:
            typer.echo(f"FAULT {fault}")
        demanded = "" if trusted else ", none demanded (promote.trusted_keys is empty)"
        typer.echo(
            f"{len(entries)} ledger entries, {checked} bundles, {signed} signed{demanded}, {len(faults) or 'no'} faults"
        )
        if any("alias" in fault or "registry" in fault for fault in faults):
            typer.echo("`goku registry sync` makes MLflow say what the ledger says.")
    if faults:
        raise typer.Exit(1)


@registry.command("keygen")
def keygen(
    out: Annotated[Path, typer.Option(help="File for the private key; it must not be there yet")],
    as_json: Json = False,
) -> None:
    """Make a key that signs bundles (Ed25519, readable by its owner alone) and print its public part.

    Example: goku registry keygen --out ~/.goku-release.pem
    """
    from goku_core.promote import signature

    public = signature.keygen(out)
    if as_json:
        typer.echo(json.dumps({"file": str(out), "public": public}))
    else:
        typer.echo(public)
        typer.echo(f"{signature.VARIABLE}={out} signs with it; promote.trusted_keys takes the line above", err=True)


@registry.command("sign")
def sign(
    model: Annotated[str, typer.Argument(help="A version, champion, previous, challenger, or a bundle's digest")],
    as_json: Json = False,
) -> None:
    """Sign a bundle with the key that GOKU_SIGNING_KEY names: a key file, or kms: and a key of AWS KMS.

    Example: goku registry sign 3
    """
    from goku_core.promote import promotion, signature
    from goku_core.promote import registry as mlflow_mirror

    workspace = Path.cwd()
    request = _request(workspace)
    signer = signature.signer()
    if signer is None:
        raise GokuError(f"{signature.VARIABLE} is not set: it names a key file, or kms: and a key of AWS KMS.")
    digest = promotion.resolve(workspace, model, request.alias, signed=False)[1]
    one = signature.sign(workspace, digest, signer)
    mlflow_mirror.mirror(workspace, request.registry_name, request.alias)
    if as_json:
        typer.echo(one.model_dump_json())
        return
    typer.echo(f"bundle {digest[:12]} signed with {one.key} ({one.algorithm})")
    trusted = signature.trusted(workspace, request.trusted_keys)
    if trusted and one.key not in trusted:
        typer.echo("note: promote.trusted_keys does not name this key, so the bundle is not loaded by it", err=True)


@registry.command("sync")
def sync(
    anew: Annotated[
        bool,
        typer.Option("--anew", help="Delete the registered model first: the workspace has moved, or versions are old"),
    ] = False,
    runs: Annotated[
        bool, typer.Option("--runs", help="First give MLflow the runs it has lost, from .goku/tracking")
    ] = False,
) -> None:
    """Make MLflow say what the ledger says (after a lost database, or a write that was interrupted).

    Examples: goku registry sync · goku registry sync --runs
    """
    from goku_core.promote import registry as mlflow_mirror

    workspace = Path.cwd()
    request = _request(workspace)
    if runs:
        from goku_core import tracking

        copied = tracking.copy_again(workspace, load_params(workspace / "params.yaml").tracking)
        typer.echo(f"{len(copied)} runs copied again, {', '.join(one[:12] for one in copied) or 'none was lost'}")
    version = mlflow_mirror.mirror(workspace, request.registry_name, request.alias, anew)
    typer.echo(f"{request.registry_name}@{request.alias}: registry version {version or 'none'}")


@registry.command("card")
def card(
    model: Annotated[str, typer.Argument(help="A version, champion, previous, challenger, or a bundle's digest")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the card and its pictures, instead of printing it")
    ] = None,
) -> None:
    """The model card: what a version is, what it was made from, what it scored, who decided.

    Example: goku registry card champion
    """
    import tempfile

    from goku_core.promote import card as cards
    from goku_core.promote import promotion

    workspace = Path.cwd()
    digest = promotion.resolve(workspace, model, _alias(workspace))[1]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        typer.echo(str(cards.write(workspace, digest, out)))
        return
    with tempfile.TemporaryDirectory() as place:
        typer.echo(cards.write(workspace, digest, Path(place)).read_text(encoding="utf-8"))


def _decide(workspace: Path, option: str, version: int, by: str | None, because: str, as_json: bool) -> None:
    """What a person decides about a version, by the option that says so."""
    from goku_core.promote import promotion

    if not because:
        raise GokuError(f"{option} needs --because REASON: the ledger keeps why it was decided.")
    request = _request(workspace)
    if option == "--by-hand":
        entry = promotion.promote_by_hand(workspace, request, version, because, by)
    elif by is None:
        raise GokuError(f"{option} needs --by NAME, one of promote.gate.approver: the ledger keeps who decided.")
    else:
        decided = promotion.approve if option == "--approve" else promotion.decline
        entry = decided(workspace, request, version, by, because)
    _tell(entry, as_json)


def _note_another_champion(workspace: Path, facts: dict[str, object]) -> None:
    """The stage's answer is about its candidate; the ledger may have moved on since."""
    from goku_core.promote import ledger

    standing = ledger.champion(ledger.read(workspace))
    if standing is not None and facts["decision"] == "promoted" and standing.bundle != facts["digest"]:
        typer.echo(f"note: version {standing.version} is champion now, see `goku registry history`", err=True)


def _request(workspace: Path) -> Request:
    return load_params(workspace / "params.yaml").promote


def _alias(workspace: Path) -> str:
    """The champion's alias; a folder that holds only a ledger can be read without parameters."""
    return _request(workspace).alias if (workspace / "params.yaml").is_file() else "champion"


def _tell(entry: Entry, as_json: bool) -> None:
    if as_json:
        typer.echo(entry.model_dump_json())
    else:
        now = "is champion now" if entry.champion == entry.bundle else entry.decision
        typer.echo(f"version {entry.version} ({entry.bundle[:12]}) {now}: {entry.reason}")


def _interval(entry: Entry) -> str:
    return f"{entry.interval[0]:.3f} to {entry.interval[1]:.3f}"


def _print(table: Table) -> None:
    from rich.console import Console

    Console(highlight=False).print(table)
