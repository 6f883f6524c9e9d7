"""The servers of infra/compose.yaml without a container engine: its own commands, settings and secrets, as processes.

What a container engine would give is given here: names of hosts become addresses of this machine, and secrets' files and
the proxy's folders lie where the process looks for them. Nothing else of the file is changed.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from served_workspace import small_workspace

from goku_core.services import accounts

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), None)
MISSING = [
    name
    for name, found in {
        "nginx": shutil.which("nginx"),
        "envsubst": shutil.which("envsubst"),
        "postgres": POSTGRES and (POSTGRES / "initdb").exists(),
    }.items()
    if not found
]
FOREIGN = ("PREFECT_", "MLFLOW_", "AWS_", "PG", "GOKU_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


class Overridden(yaml.SafeLoader):
    """Compose's own tag, which replaces a list instead of adding to it."""


Overridden.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    return yaml.load((INFRA / name).read_text(), Loader=Overridden)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(eq=False)
class Team:
    """Running servers and how to reach them; `reader`, `writer` are USER:PASSWORD."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    reader: str = ""
    writer: str = ""
    outsider: str = ""

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    def url(self, server: str) -> str:
        """Through the proxy."""
        return f"http://127.0.0.1:{self.ports[f'proxy to {server}']}"

    def ask(
        self,
        address: str,
        who: str | None = None,
        method: str = "GET",
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        request = urllib.request.Request(address, method=method, headers=headers or {})
        if who:
            request.add_header("Authorization", "Basic " + base64.b64encode(who.encode()).decode())
        if body is not None:
            request.data = body if isinstance(body, bytes) else json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with OPENER.open(request, timeout=30) as answer:
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())

    def environment(self, service: str) -> dict[str, str]:
        """What the compose file gives a service, with this machine's places; of the shell nothing that servers read."""
        given = compose()["services"][service].get("environment", {})
        kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
        path = f"{INFRA}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return kept | {k: self.here(str(v)) for k, v in given.items()} | {"PATH": path, "PYTHONPATH": str(ROOT)}

    def here(self, text: str) -> str:
        hosts = {
            "postgres:5432": "postgres",
            "s3:8333": "s3",
            "prefect:4200": "prefect",
            "mlflow:5000": "mlflow",
            "serve:7860": "serve",
        }
        for written, name in hosts.items():
            text = text.replace(written, f"127.0.0.1:{self.ports[name]}")
        places = {"/run/secrets": str(self.secrets)}
        places |= {own: f"{self.folder}{own}" for own in ("/tmp", "/work", "/var/lib/prefect")}
        return re.sub(f"^({'|'.join(places)})(?=/|$)", lambda found: places[found[0]], text)

    def start(self, service: str, *words: str, user: str | None = None, **more: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{service}.log").open("wb")
        env = self.environment(service.partition("-")[0]) | more
        process = subprocess.Popen(
            words, env=env, cwd=self.folder, stdout=log, stderr=log, start_new_session=True, user=user
        )
        self.processes.append(process)
        return process

    def start_as_composed(self, service: str) -> subprocess.Popen[bytes]:
        """Entry point and command of the file; of the addresses it listens on, this machine's."""
        wanted = compose()["services"][service]
        words = [self.here(str(word)) for word in [*wanted["entrypoint"], *wanted["command"]]]
        port = {"4200": "prefect", "5000": "mlflow"}
        words = [str(self.ports[port[word]]) if word in port else word for word in words]
        return self.start(service, *(word.replace("0.0.0.0", "127.0.0.1") for word in words))

    def await_answer(self, address: str, service: str, seconds: float = 150.0) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                if self.ask(address).status < 500:
                    return
            except OSError:
                time.sleep(0.2)
            process = self.processes[-1]
            told = (self.folder / f"{service}.log").read_text(errors="replace")[-3000:]
            assert time.monotonic() < end, f"{service} does not answer:\n{told}"
            assert service not in str(process.args) or process.poll() is None, f"{service} has ended:\n{told}"

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text(errors="replace")


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def quiet_port() -> int:
    """A free one below those that the kernel gives to outgoing connections: nobody takes it before the server does."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def team_servers(servers: tuple[str, ...] = ("prefect", "mlflow")):  # type: ignore[no-untyped-def]
    """Postgres, an S3 server, the named servers and the proxy in front of them; everything is ended afterwards."""
    # not pytest's folder: Postgres does not run as root, and may not look into it
    team = Team(Path(tempfile.mkdtemp(prefix="goku-team-")))
    team.folder.chmod(0o755)
    (team.folder / "tmp").mkdir()
    small_workspace(team.folder / "work")
    names = ("postgres", "s3", "prefect", "mlflow", "serve")
    team.ports = {name: quiet_port() for name in (*names, *(f"proxy to {name}" for name in names[2:]))}
    try:
        accounts.prepare(team.secrets)
        team.writer = f"anna:{accounts.grant(team.secrets, 'anna', 'writer')}"
        team.reader = f"ben:{accounts.grant(team.secrets, 'ben', 'reader')}"
        team.outsider = f"carl:{accounts.grant(team.secrets, 'carl', 'reader')}"
        groups = team.secrets / accounts.GROUPS  # one who has a password and no group
        kept = [line for line in groups.read_text().splitlines(True) if not line.startswith("carl")]
        groups.chmod(0o644)
        groups.write_text("".join(kept))
        start_postgres(team)
        start_s3(team)
        for server in servers:
            team.start_as_composed(server)
        start_proxy(team)
        for server in servers:
            health = {"prefect": "/api/health", "mlflow": "/health"}[server]
            team.await_answer(f"http://127.0.0.1:{team.ports[server]}{health}", server)
        yield team
    finally:
        end(team)
        shutil.rmtree(team.folder, ignore_errors=True)


def start_postgres(team: Team) -> None:
    """As the postgres image does at its first start: initdb with the arguments of the file, then its scripts."""
    assert POSTGRES
    owner = "postgres" if os.getuid() == 0 else None
    data = team.folder / "postgres"
    data.mkdir()
    if owner:
        shutil.chown(data, owner)
    wanted = compose()["services"]["postgres"]
    arguments = wanted["environment"]["POSTGRES_INITDB_ARGS"].split()
    # the folder of secrets is its owner's alone, and the engine hands the container one file
    password = data.with_name("superuser")
    shutil.copy(team.secrets / "postgres_password", password)
    command = [POSTGRES / "initdb", "-D", data / "pgdata", "-U", "postgres", f"--pwfile={password}", *arguments]
    made = subprocess.run(command, user=owner, cwd=team.folder, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    port = str(team.ports["postgres"])
    team.start(
        "postgres", str(POSTGRES / "postgres"), "-D", str(data / "pgdata"), "-p", port, "-h", "127.0.0.1",
        "-k", str(data), "-c", "fsync=off", user=owner,
    )  # fmt: skip
    client = os.environ | {
        "PGHOST": str(data),
        "PGPORT": port,
        "PGPASSWORD": (team.secrets / "postgres_password").read_text(),
        "SECRETS": str(team.secrets),
    }
    for _ in range(200):
        if subprocess.run([POSTGRES / "pg_isready", "-q"], env=client).returncode == 0:
            break
        time.sleep(0.1)
    done = subprocess.run([INFRA / "postgres/databases.sh"], env=client, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def start_s3(team: Team) -> None:
    """moto in the place of the store: S3's own interface; it checks no signature."""
    port = str(team.ports["s3"])
    team.start("s3", sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port)
    team.await_answer(f"http://127.0.0.1:{port}/", "s3")
    buckets = compose()["services"]["buckets"]
    words = [*buckets["entrypoint"], *buckets["command"]]
    done = subprocess.run(words, env=team.environment("buckets"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "goku: made\nmlflow: made\n"


def start_proxy(team: Team, transport: str = "plain", name: str = "proxy", **changes: str) -> None:
    """Folders as the volumes of the file lay them out, and the template filled in by the same program."""
    folder = team.folder / name
    for part in ("conf.d", "run"):
        (folder / part).mkdir(parents=True)
    shutil.copy(INFRA / "proxy/nginx.conf", folder)
    (folder / "goku").symlink_to(INFRA / "proxy")
    shutil.copytree(team.secrets / "proxy", folder / "accounts")
    if os.getuid() == 0:  # nginx's workers are nobody's, as in the image
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                shutil.chown(path, "nobody")
    given = team.environment("proxy") | changes
    for server in ("PREFECT", "MLFLOW", "SERVE"):
        listen = given[f"GOKU_{server}_LISTEN"].partition(" ")
        port = int(listen[0]) if changes else team.ports[f"proxy to {server.lower()}"]
        given[f"GOKU_{server}_LISTEN"] = f"127.0.0.1:{port}" + "".join(listen[1:])
    given["GOKU_ARTIFACT_LIMIT"] = "64m"
    given["GOKU_TRANSPORT"] = transport
    variables = " ".join(f"${{{key}}}" for key in given if key.startswith("GOKU_"))
    template = (INFRA / "proxy/goku.conf.template").read_text()
    filled = subprocess.run(["envsubst", variables], input=template, env=given, capture_output=True, text=True)
    (folder / "conf.d/goku.conf").write_text(filled.stdout)
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    team.start(name, *command, "-g", "daemon off;")


def end(team: Team) -> None:
    for process in reversed(team.processes):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + 15
    for process in reversed(team.processes):
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
