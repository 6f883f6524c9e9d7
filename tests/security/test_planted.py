"""Secrets are given, work is done, and then everything that was written, shown or started is searched for them."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from promote_workspace import candidate
from served_workspace import Place, call, small_workspace
from team_servers import MISSING, POSTGRES, Team, team_servers

pytestmark = [
    pytest.mark.platform,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


class CommandLines:
    """Command lines of all processes of this machine, looked at again and again: anybody may read them."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CommandLines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(file.read_bytes())
                except OSError:  # it has ended
                    continue


def spellings(secret: str) -> Iterator[bytes]:
    yield secret.encode()
    yield quote(secret, safe="").encode()
    for lead in range(3):  # base64 of something that holds it, wherever it begins
        coded = base64.b64encode(b"\0" * lead + secret.encode())
        yield coded[4 if lead else 0 : len(coded) // 4 * 4 - 4]


def dumped(team: Team, database: str) -> bytes:
    """All rows of a database as text."""
    assert POSTGRES
    env = {"PGPASSWORD": (team.secrets / f"{database}_database_password").read_text(), "PGHOST": "127.0.0.1"}
    env |= {"PGPORT": str(team.ports["postgres"]), "PGUSER": database}
    return subprocess.run(
        [POSTGRES / "pg_dump", "--data-only", database], env=env, capture_output=True, check=True
    ).stdout


def test_a_planted_secret_is_nowhere(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "signing.pem").write_bytes(key)
    (tmp_path / "signing.pem").chmod(0o600)
    with team_servers(()) as team, CommandLines() as lines:
        database = (team.secrets / "mlflow_database_password").read_text()
        address = f"postgresql+psycopg://mlflow:{quote(database)}@127.0.0.1:{team.ports['postgres']}/mlflow"
        secrets = {
            "of the database": database,
            "of S3": "planted-wJalrXUtnFEMI-K7MDENG",
            "of Prefect": "planted-bPxRfiCYEXAMPLEKEY",
            "of goku serve": "planted-8a7f0c5e1d3b9264",
            "key": key.decode().splitlines()[1],
        }
        given = {
            "MLFLOW_TRACKING_URI": address,
            "AWS_ACCESS_KEY_ID": "goku",
            "AWS_SECRET_ACCESS_KEY": secrets["of S3"],
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{team.ports['s3']}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "PREFECT_SERVER_API_AUTH_STRING": f"goku:{secrets['of Prefect']}",
            "PREFECT_API_AUTH_STRING": f"goku:{secrets['of Prefect']}",
            "GOKU_SERVE_TOKEN": secrets["of goku serve"],
            "GOKU_SIGNING_KEY": str(tmp_path / "signing.pem"),
        }
        place = Place(small_workspace(tmp_path / "w"))
        said = []

        def goku(*words: str) -> subprocess.CompletedProcess[str]:
            done = place.goku(*words, **given)
            said.append((done.stdout + done.stderr).encode())
            return done

        try:
            up = goku("up")
            assert up.returncode == 0, up.stderr
            assert call(f"{place.api}/flows/filter", {})[0] == 401, "the password counts"
            collect = goku("run", "collect", "--json")
            assert collect.returncode == 0, collect.stderr
            report = goku("report")
            assert report.returncode == 0, report.stderr
            candidate(place.folder, 1.0, 0.7)
            promote = goku("run", "promote", "--no-flow", "--json")
            assert promote.returncode == 0, promote.stderr
            for words in (["status"], ["lineage", "collect", "--json"], ["plan", "--json"], ["doctor", "--json"],
                          ["registry", "history"], ["status", "--services", "--json"]):  # fmt: skip
                goku(*words)
            (place.folder / "params.yaml").write_text("seed: [")  # what fails is told at length
            goku("run", "collect")
            time.sleep(0.2)
            tracked = dumped(team, "mlflow")
        finally:
            goku("down", "--grace", "5")
    assert collect.stdout.count("fingerprint") and b"goku.fingerprint" in tracked, "it was tracked in that database"
    written = {path: path.read_bytes() for path in place.folder.rglob("*") if path.is_file() and not path.is_symlink()}
    names = {path.relative_to(place.folder).as_posix() for path in written}
    assert {".goku/prefect/prefect.db", ".goku/services/mlflow.log", "reports/index.html"} <= names
    searched = written | {
        "what was printed": b"\n".join(said),
        "the database": tracked,
        "command lines": b"\n".join(lines.seen),
    }
    assert len(lines.seen) > 20 and any(b"goku_core.tracking" in one for one in lines.seen)
    found = [
        f"the secret {name} is in {place}"
        for name, secret in secrets.items()
        for spelling in set(spellings(secret))
        for place, content in searched.items()
        if spelling in content
    ]
    assert found == []


def test_the_search_finds_every_spelling() -> None:
    secret = "planted-secret/of+24 chars"
    for lead in ("", "a", "ab", "goku:"):
        coded = base64.b64encode(f"{lead}{secret}".encode())
        assert any(one in coded for one in spellings(secret)), lead
    assert any(one in quote(secret, safe="").encode() for one in spellings(secret))
