"""All that the servers of a team answer to, from their own tables, and requests whose path is sent as written."""

from __future__ import annotations

import base64
import http.client
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from team_servers import POSTGRES, Team

ID = "00000000-0000-4000-8000-000000000000"


def basic(who: str) -> str:
    return "Basic " + base64.b64encode(who.encode()).decode()


def raw(team: Team, server: str, method: str, path: str, who: str | None = None, source: str = "127.0.0.1", **headers):
    """Status of a request whose path is sent as written."""
    line = http.client.HTTPConnection("127.0.0.1", team.ports[f"proxy to {server}"], 30, (source, 0))
    try:
        line.putrequest(method, path, skip_accept_encoding=True)
        for name, value in ({"Authorization": basic(who)} if who else {}).items() | headers.items():
            line.putheader(name.replace("_", "-"), value)
        line.putheader("Content-Length", "0")
        line.endheaders()
        return line.getresponse().status
    finally:
        line.close()


def together(calls: list[tuple], threads: int = 64) -> dict[tuple, int]:
    """Answers of many requests: a refusal takes its second. What is asked too fast is asked again when there is room."""
    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(calls, pool.map(lambda one: _patiently(*one), calls), strict=True))


def _patiently(*call: Any) -> int:
    for _ in range(60):
        if (status := raw(*call)) != 429:
            return status
        time.sleep(1)
    return status


def filled(path: str) -> str:
    return re.sub(r"{[^}]*}|<[^>]*>", ID, path)


def routes(team: Team) -> dict[str, set[tuple[str, str]]]:
    """(method, path) of both servers, from their own tables."""
    paths = json.loads(team.ask(f"http://127.0.0.1:{team.ports['prefect']}/api/openapi.json").body)["paths"]
    prefect = {
        (method.upper(), ("" if path.startswith("/api") else "/api") + filled(path))
        for path, known in paths.items()
        for method in known
    }
    program = (
        "import json\nfrom mlflow.server import app\nfrom mlflow.server.fastapi_app import app as outer\n"
        "rules = [(m, r.rule) for r in app.url_map.iter_rules() for m in r.methods]\n"
        "rules += [(m.upper(), p) for p, known in outer.openapi()['paths'].items() for m in known]\n"
        "print(json.dumps(rules))"
    )
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env=team.environment("mlflow"), capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    mlflow = {(method, filled(path)) for method, path in json.loads(told.stdout.splitlines()[-1])}
    assert len(prefect) > 150 and len(mlflow) > 300
    return {"prefect": prefect, "mlflow": mlflow}


def sockets() -> list[str]:
    """Websockets of Prefect's server, from its source: OpenAPI has no word for them."""
    from prefect.server import api

    found = []
    for file in sorted(Path(api.__file__).parent.glob("*.py")):
        text = file.read_text()
        for name, path in re.findall(r"@(\w+)\.websocket\(\s*\"([^\"]+)\"", text):
            prefix = re.search(rf"^{name}[^=]*= PrefectRouter\(\s*prefix=\"([^\"]+)\"", text, re.MULTILINE)
            assert prefix, f"{file.name}: where does {path} hang?"
            found.append(f"/api{prefix[1]}{filled(path)}")
    return found


def rows(team: Team) -> dict[str, int]:
    """How many rows each table of both databases has, counted by the database itself."""
    assert POSTGRES
    counted = {}
    for database in ("prefect", "mlflow"):
        env = {"PGPASSWORD": (team.secrets / f"{database}_database_password").read_text(), "PGHOST": "127.0.0.1"}
        env |= {"PGPORT": str(team.ports["postgres"]), "PGUSER": database, "PGDATABASE": database}
        query = (
            "SELECT table_name, (xpath('/row/c/text()', query_to_xml(format('select count(*) as c from %I', table_name),"
            " false, true, '')))[1]::text FROM information_schema.tables WHERE table_schema = 'public'"
        )
        told = subprocess.run([POSTGRES / "psql", "-Atc", query], env=env, capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        counted |= {f"{database}.{k}": int(v) for k, v in (line.split("|") for line in told.stdout.splitlines())}
    # what the servers write by themselves
    passing = (
        "event",
        "session",
        "configuration",
        "csrf",
        "lease",
        "worker",
        "block",
        "automation_",
        "composite",
        "service",
    )
    return {name: number for name, number in counted.items() if not any(word in name for word in passing)}
