"""The proxy of a team in front of the real servers, as infra/compose.yaml has them: nobody passes without a password."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from team_routes import ID, basic, raw, routes, rows, sockets, together
from team_servers import MISSING, Team, compose, quiet_port, start_proxy, team_servers

from goku_core.services import accounts
from goku_core.services.processes import wait

pytestmark = [
    pytest.mark.platform,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
Routes = dict[str, set[tuple[str, str]]]
TRICKS = [
    "//api/flows/", "/api//admin/settings", "/api/health/../admin/settings", "/x/..%2fapi/admin/version", "/api/admin;health",
    "/api/admin/version/..;/health", "/api%2fadmin%2fversion", "/%61pi/admin/version", "/api/admin/version?x=/api/health",
    "/api/admin/settings/health", "/api/flows/ready", "/api/%2e%2e/api/flows/", "/./api/admin/version", "/api/flows/#health",
    "/api/deployments/health", "/static-files/../api/2.0/mlflow/experiments/search", "/api/2.0/mlflow-artifacts/artifacts/../../x",
    "/API/admin/version", "/api/admin/version%00health", "/api/admin/version%20", "/favicon.ico", "/robots.txt", "/.well-known/x",
    "http://127.0.0.1/api/admin/version", "/\\api\\admin", "/goku-allowed/", "/docs", "/redoc", "/v2/", "/ui-settings",
]  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture(scope="module")
def known(team: Team) -> Routes:
    return routes(team)


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    with team_servers() as running:
        yield running


def test_no_path_answers_without_a_password(team: Team, known: Routes) -> None:
    calls = [(team, server, method, path) for server, found in known.items() for method, path in sorted(found)]
    calls = [call for call in calls if call[2] != "HEAD"]
    answers = together(calls, 100)
    assert set(answers.values()) == {401}, [c[2:] for c, s in answers.items() if s != 401][:10]


def test_no_spelling_of_a_path_gets_past_the_password(team: Team) -> None:
    calls = [
        (team, server, method, path)
        for server in ("prefect", "mlflow", "serve")
        for path in TRICKS
        for method in ("GET", "POST")
    ]
    calls += [(team, server, method, "/health") for server in ("prefect", "mlflow", "serve") for method in METHODS]
    calls += [
        (team, "prefect", "GET", "/api/health", wrong) for wrong in ("anna:", ":", "anna", "carl:x", "anna:x" * 90)
    ]
    answers = together(calls)
    # 400 is nginx's own word for a path it cannot read; 401 is the rule
    odd = {call[2:]: status for call, status in answers.items() if status != 401}
    assert set(odd.values()) <= {400}, odd
    assert team.log("proxy").count(" 200 ") == 0 or not [c for c, s in answers.items() if s < 400]


def test_websockets_are_asked_too(team: Team) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    async def shake(path: str, who: str | None) -> int:
        address = f"ws://127.0.0.1:{team.ports['proxy to prefect']}{path}"
        headers = {"Authorization": basic(who)} if who else {}
        try:
            async with connect(address, subprotocols=["prefect"], additional_headers=headers, proxy=None) as line:
                await line.send(json.dumps({"type": "auth", "token": None}))
                assert json.loads(await asyncio.wait_for(line.recv(), 20))["type"] == "auth_success"
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    found = sockets()
    assert {"/api/events/in", "/api/events/out", "/api/logs/out"} < set(found) and len(found) >= 5
    for path in found:
        assert asyncio.run(shake(path, None)) == 401, path
        assert asyncio.run(shake(path, team.outsider)) == 403, path
    reads = {path: asyncio.run(shake(path, team.reader)) for path in found}
    assert {path for path, status in reads.items() if status == 101} == {"/api/events/out", "/api/logs/out"}, reads
    assert asyncio.run(shake("/api/events/in", team.writer)) == 101
    assert asyncio.run(shake("/api/events/out", team.writer)) == 101


def test_a_reader_changes_nothing_whatever_he_asks(team: Team, known: Routes) -> None:
    before = rows(team)
    assert before["mlflow.experiments"] == 1
    calls = [
        (team, server, method, path, team.reader)
        for server, found in known.items()
        for method, path in sorted(found)
        if method in ("POST", "PUT", "PATCH", "DELETE")
    ]
    answers = together(calls, 8)
    passed = {call[3] for call, status in answers.items() if status != 403}
    assert {call[2] for call, status in answers.items() if status != 403} == {"POST"}
    words = re.compile(
        r"/(filter|count|paginate|history|lateness|search|search-datasets|concurrency_status|graphql|metrics)$"
    )
    others = {path for path in passed if not words.search(path) and "/count" not in path and "/ui/" not in path}
    assert {path.rsplit("/", 1)[1] for path in others} <= {
        "get-latest-versions", "batchGetInfos", "calculate-filter-correlation",
    }, others  # fmt: skip
    tricks = ["/api/deployments/{}/create_flow_run/../../../flow_runs/filter",
              "/api/flow_runs/filter/..%2f..%2fdeployments/",
              "/api/flow_runs/filter;/../../deployments/", "//api/deployments/",
              "/api/block_documents/?include_secrets=true"]  # fmt: skip
    assert set(together([(team, "prefect", "POST", path.format(ID), team.reader) for path in tricks]).values()) <= {
        400,
        403,
    }
    assert raw(team, "prefect", "GET", f"/api/block_documents/{ID}?include_secrets=true", team.reader) == 403
    assert raw(team, "prefect", "POST", "/api/block_documents/filter", team.reader) == 403
    assert rows(team) == before


def test_what_the_platform_does_not_use_is_closed_to_writers_too(team: Team) -> None:
    api = "/ajax-api/3.0"
    closed = [f"{api}/jobs/", f"{api}/mlflow/gateway/secrets/create", f"{api}/mlflow/assistant/message",
              f"{api}/mlflow/scorer/invoke",
              "/gateway/proxy/x/y", "/ajax-api/2.0/mlflow/gateway-proxy", "/api/2.0/mlflow/webhooks",
              f"{api}/mlflow/mcp-servers"]  # fmt: skip
    calls = [(team, "mlflow", method, path, team.writer) for path in closed for method in ("GET", "POST")]
    assert set(together(calls, 4).values()) == {403}


def test_graphql_changes_nothing() -> None:
    """Readers may ask it with POST, and a POST could carry a mutation."""
    from mlflow.server.graphql.graphql_schema_extensions import schema

    mutations = schema.graphql_schema.mutation_type
    assert set(mutations.fields) <= {"testMutation", "mlflowSearchRuns", "mlflowSearchDatasets"}


def test_a_writer_starts_a_run_and_a_reader_sees_it(team: Team) -> None:
    """The worker and the deployments of the file; the engine's own client through the proxy; MLflow on Postgres and S3."""
    import boto3

    deployments = team.start_as_composed("deployments")
    assert deployments.wait(120) == 0, team.log("deployments")
    team.start_as_composed("worker")
    env = {k: v for k, v in team.environment("deployments").items() if not k.startswith("PREFECT_")}
    env |= {"PREFECT_API_URL": f"{team.url('prefect')}/api", "PREFECT_HOME": str(team.folder / "tmp/elsewhere")}
    words = [sys.executable, "-m", "prefect", "deployment", "run", "collect/local", "--watch"]

    def started_by(who: str) -> subprocess.CompletedProcess[str]:
        # following a run is a websocket, and its client sends a password only as a header of one's own
        given = env | {"PREFECT_API_AUTH_STRING": who}
        given["PREFECT_CLIENT_CUSTOM_HEADERS"] = json.dumps({"Authorization": basic(who)})
        return subprocess.run(words, env=given, cwd=team.folder, capture_output=True, text=True, timeout=240)

    assert started_by(team.reader).returncode != 0
    ran = started_by(team.writer)
    assert ran.returncode == 0, ran.stdout + ran.stderr + team.log("worker")
    flow_runs = team.ask(f"{team.url('prefect')}/api/flow_runs/filter", team.reader, "POST", {})
    assert [(run["name"], run["state_type"]) for run in json.loads(flow_runs.body)] == [("collect", "COMPLETED")]
    mlflow = f"{team.url('mlflow')}/api/2.0/mlflow"
    experiment = json.loads(team.ask(f"{mlflow}/experiments/get-by-name?experiment_name=goku", team.reader).body)
    asked = {"experiment_ids": [experiment["experiment"]["experiment_id"]]}
    (run,) = json.loads(team.ask(f"{mlflow}/runs/search", team.reader, "POST", asked).body)["runs"]
    assert run["info"]["status"] == "FINISHED"
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert (tags["goku.cell"], tags["goku.driver"]) == ("collect", "prefect")
    password = team.writer.split(":")[1]
    s3 = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{team.ports['s3']}", region_name="us-east-1",
        aws_access_key_id="x", aws_secret_access_key="x",
    )  # fmt: skip
    put = f"{team.url('mlflow')}/api/2.0/mlflow-artifacts/artifacts/{run['info']['run_id']}/note.txt"
    assert team.ask(put, team.reader, "PUT", b"no").status == 403
    assert team.ask(put, team.writer, "PUT", b"yes").status == 200
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket="mlflow")["Contents"]]
    assert f"artifacts/{run['info']['run_id']}/note.txt" in keys
    alias = {"name": "goku", "alias": "champion", "version": "1"}
    assert team.ask(f"{mlflow}/registered-models/create", team.writer, "POST", {"name": "goku"}).status == 200
    assert team.ask(f"{mlflow}/registered-models/alias", team.reader, "POST", alias).status == 403
    assert team.ask(f"{mlflow}/registered-models/alias", team.writer, "POST", alias).status == 404  # no version 1 yet
    assert (team.folder / "tmp/prefect-ui/v1/index.html").is_file(), "where a container may write"
    for name, secret in (("writer", password), ("reader", team.reader.split(":")[1])):
        assert not [s for s in ("proxy", "prefect", "mlflow") if secret in team.log(s)], (
            f"the {name}'s password is in a log"
        )


class Behind(BaseHTTPRequestHandler):
    """A server behind the proxy that answers with what it was told."""

    def do_GET(self) -> None:
        told = json.dumps({"path": self.path} | {name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("X-Accel-Redirect", "/api/health")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_what_the_servers_behind_are_told(team: Team) -> None:
    behind = ThreadingHTTPServer(("127.0.0.1", team.ports["serve"]), Behind)
    Thread(target=behind.serve_forever, daemon=True).start()
    try:
        forged = {"X-Forwarded-User": "root", "X-Forwarded-For": "8.8.8.8", "Upgrade": "h2c", "Connection": "Upgrade"}
        answer = team.ask(
            f"{team.url('serve')}/a%20b?c=%2F", team.reader, headers=forged | {"Origin": team.url("serve")}
        )
        told = json.loads(answer.body)
        assert told["path"] == "/a%20b?c=%2F"
        assert told["x-forwarded-user"] == "ben" and told["x-forwarded-for"] == "127.0.0.1"
        assert told["authorization"] == f"Bearer {(team.secrets / 'serve_token').read_text()}"
        assert not {"origin", "upgrade", "http2-settings"} & set(told)
    finally:
        behind.shutdown()
        behind.server_close()


def test_pages_of_others_cannot_use_a_browser_that_knows_the_password(team: Team) -> None:
    for server in ("prefect", "mlflow"):
        health = {"prefect": "/api/health", "mlflow": "/health"}[server]
        own = team.url(server)
        wanted = {
            None: 200,
            own: 200,
            "https://evil.example": 403,
            "null": 403,
            f"{own}.evil.example": 403,
            own[:-1]: 403,
        }
        for origin, status in wanted.items():
            headers = {"Origin": origin} if origin else {}
            assert raw(team, server, "GET", health, team.writer, **headers) == status, (server, origin)


def test_what_every_answer_carries(team: Team) -> None:
    for server in ("prefect", "mlflow"):
        for who in (None, team.outsider, team.writer):
            told = team.ask(f"{team.url(server)}/", who).headers
            assert told["server"] == "nginx" and "x-powered-by" not in told
            assert told["x-frame-options"] == "SAMEORIGIN" and told["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'self'" in told["content-security-policy"]
            assert "default-src 'self'" in told["content-security-policy"]
            assert ("www-authenticate" in told) == (who is None)
    assert team.ask(f"{team.url('prefect')}/api/flows/", team.writer, "POST", b"x" * (17 << 20)).status == 413
    assert raw(team, "prefect", "TRACE", "/", team.writer) == 405


def test_guesses_are_bounded_and_others_are_not_held_up(team: Team) -> None:
    """From another address of this machine: one that asks too much is told so, and only that one."""
    guesses = [(team, "prefect", "GET", "/api/health", f"anna:{n}", "127.0.0.7") for n in range(240)]
    with ThreadPoolExecutor(240) as pool:
        statuses = list(pool.map(lambda one: raw(*one), guesses))
    assert set(statuses) == {401, 429} and statuses.count(401) <= 160
    many = [(team, "prefect", "GET", "/api/nothing", team.reader, "127.0.0.8") for _ in range(1)] * 1000
    with ThreadPoolExecutor(24) as pool:
        told = list(pool.map(lambda one: raw(*one), many))
    assert told.count(429) > 50 and told.count(404) >= 600
    assert raw(team, "prefect", "GET", "/api/health", team.reader) == 200


def test_who_is_taken_away_is_out_at_once(team: Team) -> None:
    def given() -> None:
        for name in (accounts.HTPASSWD, accounts.GROUPS):
            target = team.folder / name.replace("proxy/", "proxy/accounts/")
            target.unlink()
            shutil.copy(team.secrets / name, target)

    who = f"dora:{accounts.grant(team.secrets, 'dora', 'reader')}"
    given()
    assert raw(team, "prefect", "GET", "/api/health", who) == 403, "the proxy does not know her group yet"
    os.kill(next(one.pid for one in team.processes if one.args[0] == "nginx"), signal.SIGHUP)
    assert wait(lambda: raw(team, "prefect", "GET", "/api/health", who) == 200, 10)
    accounts.revoke(team.secrets, "dora")
    given()
    assert raw(team, "prefect", "GET", "/api/health", who) == 401
    assert raw(team, "prefect", "GET", "/api/health", team.reader) == 200


def test_with_a_certificate_everything_is_encrypted(team: Team) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False).sign(key, hashes.SHA256())
    )  # fmt: skip
    folder = team.folder / "proxy-tls/certificates"
    folder.mkdir(parents=True)
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    given = compose("compose.tls.yaml")["services"]["proxy"]["environment"]
    port = quiet_port()
    listens = {
        k: v.replace(v.split()[0], str(port if "PREFECT" in k else quiet_port()))
        for k, v in given.items()
        if "LISTEN" in k
    }
    start_proxy(team, given["GOKU_TRANSPORT"], "proxy-tls", **listens)
    trusted = ssl.create_default_context(cafile=str(folder / "certificate.pem"))

    def status(context: ssl.SSLContext, who: str | None) -> tuple[int, str | None]:
        line = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
        line.request("GET", "/api/health", headers={"Authorization": basic(who)} if who else {})
        answer = line.getresponse()
        return answer.status, answer.getheader("Strict-Transport-Security")

    team.await_answer(f"http://127.0.0.1:{port}/", "proxy-tls", 20)
    assert status(trusted, None) == (401, "max-age=31536000")
    assert status(trusted, team.reader)[0] == 200
    assert team.ask(f"http://127.0.0.1:{port}/api/health", team.reader).status == 400  # no plain HTTP on this port
    old = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        status(old, team.reader)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
def test_pages_load_in_a_browser_that_has_the_password(team: Team) -> None:
    from playwright.sync_api import Error, sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--disable-quic", "--no-first-run"]  # fmt: skip
    name, password = team.reader.split(":")
    refused: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(http_credentials={"username": name, "password": password})
        page.on("console", lambda said: refused.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(f"{team.url('prefect')}/", timeout=60_000)
        page.get_by_text("Flow Runs").first.wait_for(timeout=60_000)
        page.goto(f"{team.url('mlflow')}/#/experiments", timeout=60_000)
        page.get_by_text("Default").first.wait_for(timeout=60_000)
        with pytest.raises(Error, match="INVALID_AUTH"):  # chromium's word for a 401 that nobody can answer
            browser.new_page().goto(f"{team.url('prefect')}/", timeout=60_000)
        browser.close()
    # What the pages load from here works; what they report elsewhere (usage analytics, without being asked) does not.
    assert [said for said in refused if "https://" not in said] == []
