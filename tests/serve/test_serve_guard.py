"""Nothing is answered without the token: every path of the API's own description, its documents, the page, websockets."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from drawing_workspace import drawing_workspace
from fastapi.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from goku_core.pipeline.errors import GokuError
from goku_core.serve.app import make_app
from goku_core.serve.desk import Desk
from goku_core.serve.guard import read_token, require_guarded
from goku_core.serve.limits import Limits

TOKEN = "correct-horse-battery"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    app = make_app(Desk(tmp_path_factory.mktemp("guarded"), Limits(upload_bytes=1000)), page=False, token=TOKEN)

    @app.websocket("/queue/join")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    return TestClient(app, base_url="http://goku.example")


@pytest.fixture(scope="module")
def open_here(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    desk = Desk(tmp_path_factory.mktemp("open"), Limits(upload_bytes=1000))
    return TestClient(make_app(desk, page=False, hosts=["goku.example"]), base_url="http://127.0.0.1:7860")


def paths(client: TestClient) -> list[tuple[str, str]]:
    described = client.get("/openapi.json", headers=RIGHT).json()["paths"]
    listed = [(verb.upper(), path) for path, verbs in described.items() for verb in verbs]
    assert len(listed) >= 12
    return listed


def test_every_path_asks_for_the_token(guarded: TestClient) -> None:
    more = ["/", "/docs", "/openapi.json", "/gradio_api/info", "/assets/x.js", "/nothing", "/v1", "//healthz"]
    more += ["/healthz/", "/healthz/x", "/x/healthz", "/HEALTHZ", "/healthz%2f", "/readyz", "/v1/..%2fhealthz"]
    wrong = [{}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": f"Bearer {TOKEN}x"}]
    wrong += [{"Authorization": TOKEN}, {"Authorization": "Basic !!"}, {"Authorization": f"Digest {TOKEN}"}]
    wrong += [{"Authorization": "Basic " + base64.b64encode(f"{TOKEN}:x".encode()).decode()}]
    for verb, path in [
        *paths(guarded),
        *(("GET", path) for path in more),
        ("OPTIONS", "/v1/models"),
        ("POST", "/healthz"),
    ]:
        if (verb, path) == ("GET", "/healthz"):
            continue
        for headers in wrong:
            answer = guarded.request(verb, path.replace("{id}", "0" * 32), headers=headers)
            assert answer.status_code == 401, (verb, path, headers)
            assert "Basic" in answer.headers["WWW-Authenticate"] and "detail" not in answer.text
    assert guarded.get("/healthz").json() == {"status": "ok"}


def test_a_websocket_is_not_opened_without_it(guarded: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), guarded.websocket_connect("/queue/join"):
        pass
    with guarded.websocket_connect("/queue/join", headers=RIGHT):
        pass


def addresses(app: object, before: str = "") -> Iterator[str]:
    """Of an application, of the routers in it and of applications mounted in it, also behind a wrapper."""
    for route in getattr(app, "routes", ()):
        path = f"{before}{getattr(route, 'path', '')}"
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        while inner is not None and not hasattr(inner, "routes"):
            inner = getattr(inner, "app", None) or getattr(inner, "_app", None)
        yield path
        yield from addresses(inner, path) if inner is not None else ()


@pytest.mark.platform
def test_the_page_asks_for_it_too(tmp_path: Path) -> None:
    """Every address that Gradio brings, whether the page uses it or not."""
    pytest.importorskip("gradio")
    pytest.importorskip("goku_core.serve.page")
    drawing_workspace(tmp_path)
    app = make_app(Desk(tmp_path), token=TOKEN)
    found = {re.sub(r"\{[^}]*\}", "x", path) or "/" for path in addresses(app)}
    assert len(found) > 40 and any("gradio_api" in path for path in found), found
    with TestClient(app) as client:
        for path in sorted(found - {"/healthz"}):
            for verb in ("GET", "POST", "DELETE"):
                assert client.request(verb, path).status_code == 401, (verb, path)
        page = client.get("/", headers=RIGHT)
        assert page.status_code == 200 and "gradio" in page.text.lower()


def test_with_the_token_all_is_open(guarded: TestClient) -> None:
    login = {"Authorization": "Basic " + base64.b64encode(f"anybody:{TOKEN}".encode()).decode()}
    for headers in (RIGHT, login, {"Authorization": f"bearer {TOKEN}"}):
        assert guarded.get("/metrics", headers=headers).status_code == 200
        assert guarded.get("/readyz", headers=headers).status_code == 503, "nothing is loaded, and that is said"
    answer = guarded.get("/v1/generations/none", headers=RIGHT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown-order")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_documents_load_nothing_from_elsewhere(guarded: TestClient) -> None:
    page = guarded.get("/docs", headers=RIGHT).text
    for _, path in paths(guarded):
        assert path in page
    assert "http://HOST:PORT" in page
    for outside in ("src=", "<link", "@import", "<script", "https://", "url("):
        assert outside not in page


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", ""])
def test_without_a_token_a_foreign_name_is_refused(open_here: TestClient, host: str) -> None:
    """A page elsewhere can let its own name lead to this machine; the browser then sends that name."""
    answer = open_here.get("/v1/models", headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host")


def test_own_names_and_origins(open_here: TestClient) -> None:
    for host in ("localhost:1", "127.0.0.1", "[::1]:7860", "goku.example", "GOKU.example:443"):
        assert open_here.get("/openapi.json", headers={"Host": host}).status_code == 200, host
    for origin, status in (
        ("http://127.0.0.1:7860", 404),
        ("https://goku.example", 404),
        ("http://127.0.0.1:9999", 403),
        ("http://evil.example", 403),
        ("null", 403),
    ):
        answer = open_here.delete("/v1/generations/none", headers={"Origin": origin})
        assert answer.status_code == status, origin
        assert "access-control-allow-origin" not in answer.headers


def test_large_bodies_are_refused_before_they_are_read(open_here: TestClient) -> None:
    most = 1000 * 4 // 3 + 2**16
    for length in (str(most + 1), "-1", "many"):
        answer = open_here.post(
            "/v1/generations", headers={"Content-Length": length, "Content-Type": "application/json"}
        )
        assert answer.status_code == 413, length

    def pieces():
        for _ in range(8):
            yield bytes(2**14)

    for path, kind in (("/v1/generations", "application/json"), ("/v1/uploads", "image/png")):
        assert open_here.post(path, content=pieces(), headers={"Content-Type": kind}).status_code == 413


def test_addresses_and_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.0.0.9"):
        require_guarded(host, None, 1)
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.com", ""):
        with pytest.raises(GokuError, match="token"):
            require_guarded(host, None, 1)
        require_guarded(host, TOKEN, 1)
    monkeypatch.setenv("GOKU_SERVE_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}-of-the-file\n")
    assert read_token(file) == f"{TOKEN}-of-the-file"
    file.write_text("short")
    for poor in (file, tmp_path / "none"):
        with pytest.raises(GokuError):
            read_token(poor)
    monkeypatch.delenv("GOKU_SERVE_TOKEN")
    assert read_token(None) is None
