"""Prompts rewritten by a language model behind a real local server: kept, asked once, labelled, never taken for the original."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from chat_server import ChatServer, Reply

from goku_core.evaluate import manifest, planning
from goku_core.evaluate.manifest import Drawing, Prompt
from goku_core.evaluate.rewriting import ask, rewriting
from goku_core.pipeline.errors import GokuError

WORDS = ("a photo of a red hat", "a photo of two cups", "a photo of a bench", "a photo of a dog above a car")
PROMPTS = [Prompt(f"geneval-{k:05d}", text, "colors", ("geneval",), {}) for k, text in enumerate(WORDS)]


def writer(server, **changes):
    return ask.Writer("writers/qwen 3", server.url, backoff_seconds=0.01, timeout_seconds=5, **changes)


def longer(asked):
    original = next(text for text in WORDS if asked.prompt.endswith(f"Prompt: {text}"))
    return Reply(f"Under a soft grey sky there is {original.removeprefix('a photo of ')}, in great detail.")


def template():
    return ask.Template(ask.own_template("image"))


def test_every_prompt_gets_the_answer_to_its_own_words(tmp_path):
    with ChatServer(longer) as server:
        done = []
        made = ask.rewrite(PROMPTS, writer(server), template(), tmp_path, done.append)
        assert sum(done) == len(server.log) == 4
        assert made.words["geneval-00003"] == "Under a soft grey sky there is a dog above a car, in great detail."
        assert made.originals == {p.prompt_id: p.text for p in PROMPTS} and made.label.startswith("qwen-3-")
        bodies = [asked.body for asked in server.log]
        assert {body["temperature"] for body in bodies} == {0.0} and {body["model"] for body in bodies} == {
            "writers/qwen 3"
        }
        # Repeated, nothing is asked; another template is another rewriting, and asked again.
        assert ask.rewrite(PROMPTS, writer(server), template(), tmp_path) == made and len(server.log) == 4
        (tmp_path / "mine.j2").write_text("Say it in verse.\nPrompt: {{ prompt }}")
        other = ask.rewrite(PROMPTS, writer(server), ask.Template(tmp_path / "mine.j2"), tmp_path)
        assert len(server.log) == 8 and other.words == made.words and other.label != made.label
    made.write(tmp_path / "rewriting.parquet")
    assert rewriting.read(tmp_path / "rewriting.parquet", PROMPTS, 4) == made
    first = (tmp_path / "rewriting.parquet").read_bytes()
    made.write(tmp_path / "rewriting.parquet")
    assert (tmp_path / "rewriting.parquet").read_bytes() == first


def test_answers_outlive_a_run_that_failed(tmp_path):
    broken = {WORDS[2]}

    def sometimes(asked):
        return Reply(status=400, raw=b"too hot") if any(asked.prompt.endswith(w) for w in broken) else longer(asked)

    with ChatServer(sometimes) as server:
        with pytest.raises(
            GokuError, match=r"1 of 4 prompts were not rewritten, for example geneval-00002: status 400: too hot"
        ):
            ask.rewrite(PROMPTS, writer(server), template(), tmp_path)
        count = len(server.log)
        broken.clear()
        assert len(ask.rewrite(PROMPTS, writer(server), template(), tmp_path).words) == 4
        assert len(server.log) == count + 1


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Reply("I'm sorry, I cannot help with that."), "refusal"),
        (Reply("Sure! A red hat lies on a table of oak."), "talks to its reader"),
        (Reply("A red hat lies on a table of", finish="length"), "cut off"),
        (Reply("red hat"), "2 words are no description"),
    ],
)
def test_an_answer_that_is_no_prompt_is_asked_for_again(bad, says, tmp_path):
    tried = []

    def stubborn(asked):
        tried.append((asked.body["temperature"], asked.body["seed"]))
        return bad if len(tried) < 3 else longer(asked)

    with ChatServer(stubborn) as server:
        assert ask.rewrite(PROMPTS[:1], writer(server), template(), tmp_path).words
        assert [t for t, _ in tried] == [0.0, 0.7, 0.7] and len({seed for _, seed in tried}) == 3
    with ChatServer(lambda asked: bad) as server, pytest.raises(GokuError, match=f"{says}.*asked 3 times"):
        ask.rewrite(PROMPTS[1:2], writer(server), template(), tmp_path)


def test_servers_and_templates_that_will_not_do_are_said_at_once(tmp_path):
    with ChatServer(longer) as server:
        server.models = ["another"]
        with pytest.raises(GokuError, match="serves no model 'writers/qwen 3'"):
            ask.rewrite(PROMPTS, writer(server), template(), tmp_path)
        server.models = None
        with pytest.raises(GokuError, match="variable NO_SUCH_KEY"):
            ask.rewrite(PROMPTS, writer(server, key_variable="NO_SUCH_KEY"), template(), tmp_path)
        assert server.log == []
    for text, says in (("Make it long.", "does not show"), ("{{ promt }}", "promt"), ("{% if %}", "Its one variable")):
        (tmp_path / "t.j2").write_text(text)
        with pytest.raises(GokuError, match=says):
            ask.Template(tmp_path / "t.j2")


def test_the_label_goes_into_the_plan_and_judges_keep_the_original(tmp_path):
    with ChatServer(longer) as server:
        made = ask.rewrite(PROMPTS, writer(server), template(), tmp_path)
    drawing = Drawing(rewriting=made.label)
    samples = planning.planned("geneval", "image", PROMPTS, 2, 0, drawing, dict(made.words))
    planning.settle(tmp_path, samples)
    for sample in manifest.read(tmp_path / "manifest.parquet"):
        assert sample.asked == made.words[sample.prompt.prompt_id] != sample.prompt.text
        assert sample.drawing.rewriting == made.label
    plain = planning.planned("geneval", "image", PROMPTS, 2, 0, Drawing())
    assert [s.seed for s in plain] == [s.seed for s in samples]  # the same noise under both
    with pytest.raises(GokuError, match="holds another plan: asked of geneval-00000-0"):
        planning.settle(tmp_path, plain)


def test_a_rewriting_of_other_words_is_refused(tmp_path):
    words = {p.prompt_id: f"{p.text}, well lit" for p in PROMPTS}
    made = rewriting.Rewriting("someone", "", {p.prompt_id: p.text for p in PROMPTS}, words)
    changed = [*PROMPTS[:3], replace(PROMPTS[3], text="a photo of a car above a dog")]
    assert made.for_prompts(PROMPTS) is made
    with pytest.raises(GokuError, match="of another suite: geneval-00003 is 'a photo of a dog above a car' there"):
        made.for_prompts(changed)
    with pytest.raises(GokuError, match="no words for geneval-00009"):
        made.for_prompts([replace(PROMPTS[0], prompt_id="geneval-00009")])
    assert replace(made, words=words | {"geneval-00000": "other"}).label != made.label
    (tmp_path / "x.parquet").write_text(json.dumps(words))
    with pytest.raises(GokuError, match="not a table"):
        rewriting.read(tmp_path / "x.parquet", PROMPTS, 4)
