"""The page of `goku serve` without a browser: its doors, its form, its sentences, and what it puts into HTML."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import re
from types import SimpleNamespace

import pytest
from promote_workspace import write_models
from starlette.testclient import TestClient

from goku_core.pipeline.commit import Workspace
from goku_core.pipeline.fingerprint import Tree
from goku_core.promote import bundle
from goku_core.serve.app import make_app
from goku_core.serve.desk import Desk
from goku_core.serve.limits import Limits
from goku_core.serve.orders import Fault, ModelCard, Refused, Result, Size, TaskCard, Ticket

pytest.importorskip("gradio", reason="the page needs the extra serve")
from goku_core.serve.page import choices, figures
from goku_core.serve.page.actions import Actions, Form
from goku_core.serve.page.doors import is_plain
from goku_core.serve.page.provenance import Origin, Origins, origin_of, settings, when

CARD = TaskCard(height=64, width=112, frames=17, fps=8.0, steps=20, guidance=3.0, sizes=[Size(height=64, width=64)])
TICKET = Ticket(
    id="ab" * 16, state="queued", position=0, progress=0.0, eta_s=None, error=None, result=None, task="t2i", seed=7,
    model="champion", digest="cd" * 32, version=2, created="2026-01-02T03:04:05+00:00", started=None, ended=None,
)  # fmt: skip
RESULT = Result(
    url="/v1/generations/x/file", media_type="image/png", bytes=12_000, sha256="ef" * 32, height=64, width=112, frames=1,
    seconds=1.25,
)  # fmt: skip
FORM = {
    "prompt": "a star", "kind": "t2i", "size": "64x112", "frames": 17, "seed": 7, "steps": 20, "guidance": 3.0,
    "model": "champion", "first_frame": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A client of the whole application, as `goku serve` puts it together, on a desk that takes nothing."""
    desk = Desk(tmp_path_factory.mktemp("workspace"), Limits(upload_bytes=100_000))
    with TestClient(make_app(desk), base_url="http://127.0.0.1:7860") as client:
        yield client


@pytest.fixture(scope="module")
def gates(browser):
    """Every address that Gradio's application has, with parameters filled in; asked of Gradio, not a list of ours."""
    mounted = browser.app.routes[-1].app._app
    filled = {"api_name": "draw", "path": "etc/passwd", "path_or_url": "/etc/passwd", "url_path": "http://example.org/"}
    waiting, found = [("", route) for route in mounted.routes], set()
    while waiting:
        prefix, route = waiting.pop()
        if hasattr(route, "original_router"):  # below /gradio_api
            waiting += [("/gradio_api", one) for one in route.original_router.routes]
            continue
        path = prefix + route.path.removeprefix(prefix)
        for method in route.methods:
            found.add((method, re.sub(r"{(\w+)(:path)?}", lambda one: filled.get(one[1], "abc"), path)))
    return found


def test_most_of_what_gradio_brings_is_shut(browser, gates):
    assert len(gates) > 50 and ("GET", "/gradio_api/file=/etc/passwd") in gates
    endless = ("GET", "/gradio_api/heartbeat/abc")  # open, and answers as long as somebody listens
    asked = gates - {endless, ("GET", "/openapi.json"), ("HEAD", "/openapi.json")}  # the service has one of its own
    opened = {(method, path) for method, path in asked if browser.request(method, path).status_code not in (404, 405)}
    assert {path for _, path in opened} == {
        "/", "/config", "/favicon.ico", "/theme.css", "/gradio_api/startup-events", "/gradio_api/queue/data",
        "/gradio_api/queue/join",
    }  # fmt: skip
    assert [method for method, path in opened if path.endswith("/join")] == ["POST"]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=C:/x",
        "/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/assets/../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%2f..%2fetc%2fpasswd",
        "/gradio_api/proxy=http://127.0.0.1:1/",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/queue/data/../../file=/etc/passwd",
        "//gradio_api/file=/etc/passwd",
    ],
)
def test_no_file_of_the_server_is_given_out(browser, path):
    answer = browser.get(path)
    assert answer.status_code == 404, answer.text[:200]
    assert "root:" not in answer.text


def join(browser, data, number: int = 0):
    form = {"data": data, "fn_index": number, "session_hash": "abc"}
    return browser.post(
        "/gradio_api/queue/join", content=json.dumps(form).encode(), headers={"content-type": "application/json"}
    )


def test_a_form_cannot_name_a_file_of_the_server(browser, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("planted")
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    for data in ([file], [[file]], ["a", file], {"0": file}):
        assert join(browser, data).status_code == 422
    assert join(browser, ["x" * 300_000]).status_code == 413
    assert browser.post("/gradio_api/queue/join", content=b"{").status_code == 422
    assert join(browser, ["a star", "t2i", None, 17, 3.5, True]).status_code != 422


def test_pages_of_other_sites_cannot_use_it(browser):
    answer = browser.post("/gradio_api/queue/join", content=b"{}", headers={"origin": "http://evil.example"})
    assert answer.status_code == 403


def test_the_page_names_no_other_host(browser):
    answer = browser.get("/")
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    fetched = re.findall(r"""(?:src|href)=["'](https?:)?//([^"'/]+)""", answer.text)
    assert {host for _, host in fetched} <= {"127.0.0.1:7860"}
    config = browser.get("/config").json()
    assert all(one["api_visibility"] == "private" for one in config["dependencies"])
    assert browser.get("/?deep_link=../../etc/passwd").status_code == 200


@pytest.mark.parametrize(
    ("body", "plain"),
    [
        (b'{"data": []}', True),
        (b'{"data": ["a", 1, 2.5, null, true]}', True),
        (b'{"data": [{}]}', False),
        (b'{"data": [[]]}', False),
        (b'{"data": {}}', False),
        (b"[]", False),
        (b"", False),
        (b"[" * 100_000, False),
        (b"\xff", False),
    ],
)
def test_a_form_is_text_and_numbers(body, plain):
    assert is_plain(body) is plain


def test_the_form_makes_the_order_that_it_shows():
    order = Form(**FORM).order()
    assert (order.task, order.height, order.width, order.seed, order.steps) == ("t2i", 64, 112, 7, 20)
    assert order.frames is None and order.first_frame is None and order.model == "champion"
    clip = Form(**FORM | {"kind": "i2v", "first_frame": "ab" * 32, "frames": 9.0}).order("challenger")
    assert (clip.frames, clip.first_frame, clip.model) == (9, "ab" * 32, "challenger")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": "  "}, "Write what to draw first."),
        ({"prompt": 3}, "Write what to draw first."),
        ({"kind": "i2v"}, "Drop a first frame first, or choose Clip."),
        ({"seed": None}, "Give a seed: a whole number from 0 on."),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0."),
        ({"size": "64"}, "Size, frames, steps and guidance must be numbers."),
        ({"size": None}, "Size, frames, steps and guidance must be numbers."),
        ({"steps": "x"}, "Size, frames, steps and guidance must be numbers."),
        ({"kind": "t2v", "frames": 7}, "frames: a clip has a first frame and groups of four: 5, 9, 13, 17, ...."),
        ({"size": "65x112"}, "height: Input should be a multiple of 16."),
        ({"model": "../x"}, None),
        ({"kind": "exec"}, None),
    ],
)
def test_what_does_not_fit_is_one_sentence(change, said):
    with pytest.raises(Refused) as told:
        Form(**FORM | change).order()
    assert told.value.status == 422
    assert said is None or str(told.value) == said
    assert "\n" not in str(told.value)


def card(version: int, *aliases: str) -> ModelCard:
    return ModelCard(
        version=version, digest=f"{version:064x}", aliases=list(aliases), decision="promoted", score=0.5,
        interval=(0.4, 0.6), protocol=None, tasks={"t2v": CARD, "t2i": CARD}, loaded=False,
    )  # fmt: skip


def test_the_form_offers_what_the_models_can_do():
    cards = [card(4, "challenger"), card(3), card(2, "champion"), card(1, "previous")]
    assert [value for _, value in choices.names(cards)] == ["champion", "challenger", "3", "previous"]
    assert choices.named(cards, "3") is cards[1] and choices.named(cards, "champion") is cards[2]
    assert choices.named(cards, "9") is None
    assert [value for _, value in choices.kinds(cards[0])] == ["t2i", "t2v"]
    assert choices.sizes(CARD) == [("64x112 (trained on)", "64x112"), ("64x64", "64x64")]
    assert choices.parsed("64x112") == (64, 112)
    assert choices.frames(CARD, Limits()) == (17, 129)
    assert choices.frames(CARD, Limits(frames=12)) == (9, 9)


def told_of(*tickets: Ticket) -> str:
    drawings = [figures.Drawing("a star", "Champion", "score", ticket) for ticket in tickets]
    return html.unescape(re.sub(r"<[^>]+>", "", figures.status(drawings)))


def test_the_line_above_the_result_says_how_it_stands():
    running = TICKET.model_copy(update={"state": "running", "progress": 0.5, "eta_s": 3.4})
    done = TICKET.model_copy(update={"state": "done", "position": None, "result": RESULT})
    failed = TICKET.model_copy(update={"state": "failed", "error": Fault(code="deadline", message="It was too late.")})
    gone = TICKET.model_copy(update={"state": "cancelled", "error": Fault(code="cancelled", message="by the client")})
    assert told_of(TICKET) == "Waiting: next in the queue."
    assert (
        told_of(TICKET.model_copy(update={"position": 2, "eta_s": 8.0}))
        == "Waiting: 2 orders before yours, about 8 s left."
    )
    assert told_of(running) == "Drawing, about 3 s left."
    assert told_of(done, running) == "Drawing 2 of 2, about 3 s left."
    assert told_of(done) == "Done in 1.2 s of drawing."
    assert told_of(done, failed) == "It was too late."
    assert told_of(gone) == "Cancelled."
    assert 'role="alert"' in figures.status([figures.Drawing("a", "b", "c", failed)])


def test_what_people_write_is_text_and_never_html():
    evil = "<img src=x onerror=alert(1)>\"'"
    done = TICKET.model_copy(update={"state": "done", "result": RESULT})
    origins = Origins((("Prompt", evil),), evil, {"prompt": evil})
    drawing = figures.Drawing(evil, evil, evil, done, origins)
    for text in (figures.drawing(drawing), figures.history([drawing]), figures.said(evil)):
        assert "<img src=x" not in text and "onerror=alert(1)>" not in text.replace("&gt;", "")
        assert evil not in text
        assert html.escape(evil, quote=False) in text or html.escape(evil) in text


def test_without_a_champion_the_page_says_so(tmp_path):
    async def compared():
        request = SimpleNamespace(client=None)
        return [parts async for parts in Actions(Desk(tmp_path)).compare(*FORM.values(), [], request)]

    (answer,) = asyncio.run(compared())
    assert "There is no champion yet" in answer[0] and 'role="alert"' in answer[0]


def test_the_data_and_the_commit_of_a_model_are_found_in_the_records(tmp_path):
    write_models(tmp_path, 1.0)
    models = {task: tmp_path / f"models/finetune_{task}" for task in ("t2i", "t2v", "i2v")}
    digest = bundle.build(tmp_path, tmp_path / "partial", models, tmp_path / "models/vae", {})
    assert origin_of(tmp_path, digest, "t2v") == Origin(), "nothing on record: nothing is made up"
    origin_of.cache_clear()
    table = Tree({"": "7a" * 32})
    with Workspace(tmp_path) as place:
        for cell, inputs, path, tree in (
            ("curate", {}, "data/clips.parquet", table),
            ("train@finetune_t2v", {"data/clips.parquet": table}, "models/finetune_t2v", None),
        ):
            tree = tree or place.digests.tree(tmp_path / path)
            facts = {
                "cell": cell, "stage": cell.partition("@")[0], "fingerprint": sha(cell), "revision": 1, "request": {},
                "inputs": {name: {"digest": one.digest, "bytes": 1} for name, one in inputs.items()},
                "git": {"commit": sha(path)[:40], "dirty": cell == "curate"}, "mlflow_run": None, "driver": "direct",
                "driver_run": None, "started": "2026-01-02T03:04:05+00:00", "finished": "2026-01-02T03:05:05+00:00",
            }  # fmt: skip
            lineage = place.write_lineage(facts | {"outputs": {path: tree.digest}})
            place.write_record(facts | {"lineage": lineage, "outputs": {path: tree.as_json()}})
    assert origin_of(tmp_path, digest, "t2v") == Origin("7a" * 6, sha("models/finetune_t2v")[:40])
    assert origin_of(tmp_path, digest, "t2i") == Origin(), "of another phase there is no record"
    origin_of.cache_clear()


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_times_and_settings_read_well():
    made = {"height": 48, "width": 80, "steps": 20, "guidance": 3.0, "upscale": 6, "fps": 8.0, "frames": 17}
    made |= {"image_guidance": 1.5, "negative": "blur"}
    assert settings(made) == (
        "48x80 px (enlarged 6x), 17 frames at 8/s, 20 steps, guidance 3, image guidance 1.5, without: blur"
    )
    assert when("2026-11-21T13:44:01+00:00") == "2026-11-21 13:44 UTC"
