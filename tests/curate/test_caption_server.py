"""Captions from a server that speaks chat completions over real HTTP: answers, trouble, bounds, what is asked again."""

import json
import threading
from collections import Counter

import pytest
from chat_server import Asked, ChatServer, Reply, frames, number_of, prose, row, settings

from goku_core.curate import Request
from goku_core.curate.captions.request import Captioner, Captions
from goku_core.curate.captions.step import check, describe
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError


def told(asked: Asked) -> Reply:
    return Reply(prose(number_of(asked)))


def run(rows, captions, workspace):
    return describe(rows, captions, workspace, frames, lambda done: None)


def test_each_row_gets_the_caption_of_its_own_frames(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CAPTION_KEY", "sesame")
    with ChatServer(told) as server:
        own = {"kind": "server", "model": "intern", "url": server.url, "key_variable": "CAPTION_KEY", "frames": 3}
        rows = [row(20), row(60, "image"), row(100, caption="a boat")]
        recipe = run(rows, settings(server.url, keyframes=own), tmp_path)
    assert [r["caption"] for r in rows] == [prose(20), prose(60), prose(100)]
    assert {(r["caption_source"], r["caption_problem"]) for r in rows} == {("keyframes", None)}
    assert recipe.asked == 3 and {asked.key for asked in server.log} == {"Bearer sesame"}
    assert {asked.body["model"] for asked in server.log} == {"intern"} and len(server.log[0].images) == 3
    picture = next(asked for asked in server.log if number_of(asked) == 60)
    assert "this picture" in picture.prompt and "key frames" not in picture.prompt
    assert b"sesame" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))


def test_frames_may_go_as_one_video(tmp_path) -> None:
    with ChatServer(told) as server:
        own = {"kind": "server", "model": "t", "url": server.url, "send": "video", "frames": 5}
        run([row(7)], settings(server.url, keyframes=own), tmp_path)
    (asked,) = server.log
    assert [part["type"] for part in asked.body["messages"][0]["content"]] == ["video_url", "text"]
    assert len(asked.images) == 5


TROUBLE = {
    "busy": Reply(status=503),
    "too many": Reply(status=429, headers={"Retry-After": "0.05"}),
    "no JSON": Reply(raw=b"<html>gateway</html>"),
    "other JSON": Reply(raw=b'{"choices": []}'),
    "hangs up": Reply(status=-1),
    "slow": Reply("too late", wait=0.6),
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_passing_trouble_is_tried_again(tmp_path, trouble: Reply) -> None:
    replies = iter([trouble, trouble])
    with ChatServer(lambda asked: next(replies, None) or told(asked)) as server:
        rows = [row(5)]
        run(rows, settings(server.url, timeout_seconds=0.3), tmp_path)
    assert rows[0]["caption"] == prose(5) and len(server.log) == 3


def test_a_refused_request_is_not_tried_again(tmp_path) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(status=400, raw=b'{"error": "too many images"}') if number_of(asked) == 9 else told(asked)

    with ChatServer(answer) as server:
        rows = [row(9, caption="a sidecar"), row(10, caption="a sidecar")]
        run(rows, settings(server.url, failures_max=0.5), tmp_path)
    assert Counter(number_of(asked) for asked in server.log) == {9: 1, 10: 1}
    assert (rows[0]["caption"], rows[0]["caption_source"]) == ("a sidecar", "sidecar")
    assert rows[0]["caption_problem"] == 'keyframes: unanswered: status 400: {"error": "too many images"}'
    assert rows[1]["caption"] == prose(10) and rows[1]["caption_problem"] is None


def test_a_server_that_stays_away_stops_the_stage_and_answers_are_kept(tmp_path) -> None:
    answered = threading.Semaphore(3)

    def answer(asked: Asked) -> Reply:
        return told(asked) if answered.acquire(blocking=False) else Reply(status=502)

    rows = [row(number) for number in range(8)]
    with ChatServer(answer) as server:
        captions = settings(server.url, attempts=2, concurrency=1)
        with pytest.raises(GokuError, match=r"1 of 8 clips got no answer.*status 502 \(tried 2 times\).*run again"):
            run(rows, captions, tmp_path)
        server.answer = told
        before = len(server.log)
        recipe = run(rows, captions, tmp_path)
        assert (recipe.known, recipe.asked, len(server.log) - before) == (3, 5, 5)
        assert [r["caption"] for r in rows] == [prose(number) for number in range(8)]
        assert run(rows, captions, tmp_path).asked == 0


@pytest.mark.parametrize(("status", "says"), [(401, "API key"), (404, "no such address or model")])
def test_what_would_meet_every_request_stops_at_once(tmp_path, monkeypatch, status: int, says: str) -> None:
    monkeypatch.setenv("CAPTION_KEY", "sesame")
    with ChatServer(lambda asked: Reply(status=status, raw=b"no")) as server:
        own = {"kind": "server", "model": "m", "url": server.url, "key_variable": "CAPTION_KEY"}
        with pytest.raises(GokuError, match=says) as caught:
            run([row(n) for n in range(50)], settings(server.url, keyframes=own, concurrency=2), tmp_path)
    assert len(server.log) <= 4 and "sesame" not in str(caught.value)


def test_a_missing_key_is_told_before_anything_is_asked(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("CAPTION_KEY", raising=False)
    own = {"kind": "server", "model": "m", "url": "http://127.0.0.1:9/v1", "key_variable": "CAPTION_KEY"}
    with pytest.raises(GokuError, match="environment variable CAPTION_KEY"):
        run([row(1)], Captions(keyframes=own), tmp_path)


def test_a_server_is_looked_at_before_anything_is_decoded(tmp_path) -> None:
    def look(url: str) -> None:
        check(Request(captions=settings(url)), Context(tmp_path, tmp_path, tmp_path))

    with ChatServer(told) as server:
        look(server.url)
        server.models = ["tarsier", "intern"]
        look(server.url)
        server.models = ["tarsier", "qwen"]
        with pytest.raises(GokuError, match=r"serves no model 'intern'; it has tarsier, qwen"):
            look(server.url)
    with pytest.raises(GokuError, match=rf"no server at {server.url} \(ConnectError.*start it first"):
        look(server.url)
    own = {"kind": "transformers", "model": "models/none"}
    with pytest.raises(GokuError, match=r"captions\.clip\.model: models/none is no model folder"):
        check(Request(captions={"clip": own}), Context(tmp_path, tmp_path, tmp_path))
    assert server.log == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"url": "http://h:1/v1"}, "needs model"),
        ({"model": "m"}, "needs url"),
        ({"model": "m", "url": "ftp://h/v1"}, "needs url"),
        ({"model": "m", "url": "http://me:word@h/v1"}, "holds a password"),
        ({"model": "m", "url": "http://h/v1", "key_variable": "sk-123"}, "never the key itself"),
    ],
)
def test_impossible_captioners_are_refused(wrong: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Captioner(kind="server", **wrong)


@pytest.mark.parametrize("most", [1, 6])
def test_requests_under_way_are_bounded_and_the_bound_is_used(tmp_path, most: int) -> None:
    with ChatServer(lambda asked: Reply(prose(number_of(asked)), wait=0.03)) as server:
        rows = [row(number) for number in range(24)]
        run(rows, settings(server.url, concurrency=most), tmp_path)
    assert server.most == most and all(r["caption"] for r in rows)


def test_two_captioners_share_the_bound(tmp_path) -> None:
    with ChatServer(lambda asked: Reply(prose(number_of(asked)), wait=0.03)) as server:
        own = {"kind": "server", "model": "tarsier", "url": server.url}
        run([row(number) for number in range(8)], settings(server.url, clip=own, concurrency=3), tmp_path)
    assert server.most == 3 and len(server.log) == 16


def test_an_answer_belongs_to_its_clip_model_and_template(tmp_path) -> None:
    with ChatServer(told) as server:
        captions = settings(server.url)
        run([row(1)], captions, tmp_path)
        assert run([row(1)], captions, tmp_path).asked == 0
        assert run([row(2)], captions, tmp_path).asked == 1
        other = captions.keyframes.model_copy(update={"model": "intern-2"})
        assert run([row(1)], captions.model_copy(update={"keyframes": other}), tmp_path).asked == 1
        (tmp_path / "prompts").mkdir()
        (tmp_path / "prompts/keyframes.j2").write_text("What goes on in these {{ seconds }} seconds?")
        mine = captions.model_copy(update={"templates": "prompts"})
        assert run([row(1)], mine, tmp_path).asked == 1 and server.log[-1].prompt.startswith(
            "What goes on in these 4.0"
        )
        assert run([row(1)], mine, tmp_path).asked == run([row(1)], captions, tmp_path).asked == 0


def test_a_damaged_store_of_answers_costs_questions_not_the_run(tmp_path) -> None:
    with ChatServer(told) as server:
        captions = settings(server.url, concurrency=1)
        run([row(n) for n in range(4)], captions, tmp_path)
        (file,) = (tmp_path / ".goku/answers").glob("keyframes-*")
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(lines[0] + b"{broken\n" + lines[2] + lines[3][: len(lines[3]) // 2])
        rows = [row(n) for n in range(4)]
        assert run(rows, captions, tmp_path).asked == 2
        assert [r["caption"] for r in rows] == [prose(n) for n in range(4)]
        assert run(rows, captions, tmp_path).asked == 0
        whole = [line for line in file.read_bytes().splitlines() if line.endswith(b"}")]
        assert {json.loads(line)["text"] for line in whole} == {prose(n) for n in range(4)}


def test_sidecars_may_be_kept_apart_from_models(tmp_path) -> None:
    with ChatServer(told) as server:
        run([row(1, caption="two boats at sea")], settings(server.url), tmp_path)
        assert "two boats at sea" not in server.log[-1].prompt
        run([row(1, caption="two boats at sea")], settings(server.url, sidecars="hint"), tmp_path)
        assert 'wrote: "two boats at sea"' in server.log[-1].prompt
