"""MLflow's model registry as a mirror of the ledger: versions, aliases, tags. Lost, it is made again from the ledger.

Version numbers of a registry that was always there equal the ledger's. Aliases: the champion's, `previous` (the
champion before) and `challenger` (the newest candidate refused since the last change of champion, if any).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import lock
from goku_core.promote import bundle, card, evidence, ledger, package
from goku_core.promote.ledger import Entry

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

BUNDLE_TAG = "goku.bundle"
HEAD_TAG = "goku.ledger_head"
EXPERIMENT = "goku-registry"
ARTIFACT = "model"


def tracking_uri(workspace: Path) -> str:
    """MLflow's place: `MLFLOW_TRACKING_URI`, or what params.yaml says under `tracking:`, or its default."""
    from goku_core import tracking

    settings, params = tracking.Request(), workspace / "params.yaml"
    if params.is_file():
        from goku_core import config  # here, because config knows the request of this very room

        section = config.read_yaml(params).get("tracking", {})
        settings = config.check(section, tracking.Request, "params.yaml, tracking")
    return tracking.resolve_uri(settings.uri, workspace)


def mirror(workspace: Path, name: str, alias: str, anew: bool = False) -> str | None:
    """Bring the registered model `name` to what the ledger says; returns the champion's registry version.

    anew  delete the registered model first, for versions whose source has moved or that an earlier release registered

    Safe to repeat and to interrupt: versions are found by the digest of their bundle, aliases go where they belong.

    MLflow sets an alias without comparing it first. So of several mirrors of a workspace one works at a time, and each
    looks at the ledger again when it is done: who wrote last has seen the newest entry, or writes once more. Mirrors of
    copies of a ledger on other machines cannot see each other's entries; what they leave is named by `disagreements`.
    """
    with lock(workspace / ".goku/locks/registry", owner="mirror"):
        if anew and (client := _client(workspace)).search_registered_models(filter_string=f"name = '{name}'"):
            client.delete_registered_model(name)
        for _ in range(ledger.ATTEMPTS):
            head = ledger.head(workspace)
            version = _mirror(workspace, name, alias)
            if ledger.head(workspace) == head:
                return version
    raise GokuError(f"{workspace / ledger.FOLDER}: other processes kept writing to the ledger. `goku registry sync`.")


def _mirror(workspace: Path, name: str, alias: str) -> str | None:
    entries = ledger.read(workspace)
    client = _client(workspace)
    if not client.search_registered_models(filter_string=f"name = '{name}'"):
        client.create_registered_model(name, description="Goku bundles; decisions and evidence are in ledger/")
    seen = client.get_registered_model(name).tags.get(HEAD_TAG)
    if seen and not ledger.knows(workspace, seen):
        raise GokuError(
            f"{workspace / ledger.FOLDER}: MLflow's model {name} has seen entry {seen[:12]}, which is not there. Either the "
            "ledger's last entries were removed: restore them. Or another ledger has this model: name another one in "
            "promote.registry_name. Or a new ledger was begun: `goku registry sync --anew`."
        )
    versions = _versions(client, name)
    for digest in dict.fromkeys(entry.bundle for entry in entries):
        if not bundle.location(workspace, digest).is_dir():
            continue
        judged = [entry for entry in entries if entry.bundle == digest and entry.decision != "rolled-back"]
        place = package.make(workspace, digest)
        if digest not in versions:
            versions[digest] = _register(client, workspace, name, judged[0], place)
        _tell(client, workspace, name, versions[digest], judged[-1], place)
    wanted = {role: versions.get(digest) for role, digest in _aliases(entries, alias).items() if digest}
    standing = client.get_registered_model(name).aliases
    for role in (alias, "previous", "challenger"):
        version = wanted.get(role)
        if version is None and role in standing:
            client.delete_registered_model_alias(name, role)
        elif version is not None and str(standing.get(role)) != str(version.version):
            client.set_registered_model_alias(name, role, version.version)
    client.set_registered_model_tag(name, HEAD_TAG, ledger.head(workspace) or "")
    return str(wanted[alias].version) if wanted.get(alias) else None


def _tell(client: MlflowClient, workspace: Path, name: str, version: ModelVersion, entry: Entry, place: Path) -> None:
    """Tags, description, and the files that came after the registration: the card of a later decision, a signature."""
    later = package.tags(workspace, entry.bundle)
    tag = {"goku.decision": entry.decision, "goku.reason": entry.reason, "goku.ledger_entry": str(entry.number)}
    tag |= _scores(workspace, entry) | later
    have = version.tags
    if any(have.get(key) != value for key, value in later.items()):
        if version.run_id and package.CARD_TAG in have:  # a version of an earlier release holds the bare bundle
            _send_later(client, version.run_id, place)
        client.update_model_version(name, version.version, package.description(place))
    for key, value in tag.items():
        if have.get(key) != value:
            client.set_model_version_tag(name, version.version, key, value)
            have[key] = value


def _scores(workspace: Path, entry: Entry) -> dict[str, str]:
    """What the version scored, and what must be known to set it beside another: interval, judge, protocol."""
    judge = evidence.summary_of(workspace, entry.evidence).get("judge", {}).get("fingerprint")
    tags = {
        "evaluate.overall": f"{entry.score:.6f}",
        "evaluate.interval": f"{entry.interval[0]:.6f} {entry.interval[1]:.6f}",
    }
    named = {"evaluate.protocol": entry.protocol, "evaluate.judge": judge}
    return tags | {key: str(value) for key, value in named.items() if value}


def disagreements(workspace: Path, name: str, alias: str) -> list[str]:
    """Where the registry does not say what the ledger says (empty: they agree)."""
    entries = ledger.read(workspace)
    client = _client(workspace)
    if not client.search_registered_models(filter_string=f"name = '{name}'"):
        return [f"the registry has no model {name}"] if entries else []
    model = client.get_registered_model(name)
    by_version = {str(v.version): digest for digest, v in _versions(client, name).items()}
    faults = []
    for role, digest in _aliases(entries, alias).items():
        shown = by_version.get(str(model.aliases.get(role)))
        if shown != digest:
            faults.append(f"alias {role}: ledger {(digest or 'none')[:12]}, registry {(shown or 'none')[:12]}")
    if model.tags.get(HEAD_TAG) != (ledger.head(workspace) or ""):
        faults.append("the newest ledger entry is not the one the registry saw last")
    return faults


def _aliases(entries: list[Entry], alias: str) -> dict[str, str | None]:
    """MLflow's alias -> bundle. The champion has the name that `promote.alias` gives it; here alone, not in the ledger."""
    return {alias if role == "champion" else role: digest for role, digest in ledger.roles(entries).items()}


def _client(workspace: Path) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # the database migrations of a new SQLite file are two screens of log lines that say nothing to a user
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    uri = tracking_uri(workspace)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _versions(client: MlflowClient, name: str) -> dict[str, ModelVersion]:
    """Bundle digest -> its registered version (the oldest, should two processes have registered it at once)."""
    found = client.search_model_versions(f"name = '{name}'")
    ordered = sorted(found, key=lambda version: int(version.version), reverse=True)
    return {version.tags[BUNDLE_TAG]: version for version in ordered if BUNDLE_TAG in version.tags}


def _register(client: MlflowClient, workspace: Path, name: str, entry: Entry, place: Path) -> ModelVersion:
    run_id = None
    source = place.resolve().as_uri()
    if tracking_uri(workspace).startswith(("http://", "https://")):
        # a server refuses a source on the caller's disk: the bundle travels as artifact of a run
        run_id, source = _upload(client, place, entry)
    tags = {
        BUNDLE_TAG: entry.bundle,
        "goku.version": str(entry.version),
        "goku.score": f"{entry.score:.6f}",
        "goku.interval": f"{entry.interval[0]:.6f} {entry.interval[1]:.6f}",
        "goku.evidence": entry.evidence,
    }
    tags |= package.tags(workspace, entry.bundle)
    told = package.description(place)
    return client.create_model_version(
        name, source=source, run_id=run_id, tags=tags, description=told, await_creation_for=0
    )


def _upload(client: MlflowClient, place: Path, entry: Entry) -> tuple[str, str]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    home = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    known = client.search_runs([home], filter_string=f"tags.`{BUNDLE_TAG}` = '{entry.bundle}'", max_results=1)
    run = known[0] if known else client.create_run(home, tags={BUNDLE_TAG: entry.bundle}, run_name=entry.bundle[:12])
    if run.info.status != "FINISHED" or ARTIFACT not in {file.path for file in client.list_artifacts(run.info.run_id)}:
        client.log_artifacts(run.info.run_id, str(place), ARTIFACT)
        client.set_terminated(run.info.run_id)
    return run.info.run_id, f"{run.info.artifact_uri}/{ARTIFACT}"


def _send_later(client: MlflowClient, run: str, place: Path) -> None:
    client.log_artifact(run, str(place / card.CARD), ARTIFACT)
    if (place / card.PICTURES).is_dir():
        client.log_artifacts(run, str(place / card.PICTURES), f"{ARTIFACT}/{card.PICTURES}")
    signed = place / package.BUNDLE / bundle.SIGNATURE
    if signed.is_file():
        client.log_artifact(run, str(signed), f"{ARTIFACT}/{package.BUNDLE}")
