"""`goku evaluate plan|sample|import|export|rewrite|status` as a user calls them."""

from __future__ import annotations

import json

import pytest
import tiny_painter
from chat_server import ChatServer, Reply
from typer.testing import CliRunner

from goku_core import cli_evaluate
from goku_core.evaluate import manifest, sampling
from goku_core.pipeline.errors import GokuError
from goku_core.references import locate


def goku(*arguments):
    """Standard output of a command that succeeds; a GokuError is raised as it is."""
    done = CliRunner().invoke(cli_evaluate.evaluate, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A workspace with one model of random weights, models/tiny."""
    monkeypatch.chdir(tmp_path)
    tiny_painter.tiny_model(tmp_path)
    return tmp_path


def test_from_a_plan_to_an_official_folder_and_back(place):
    planned = json.loads(goku("plan", "geneval", "--limit", 5, "--per-prompt", 2, "--out", "e", "--json"))
    assert (planned["prompts"], planned["samples"], planned["new"]) == (5, 10, True)
    assert json.loads(goku("plan", "geneval", "--limit", 5, "--per-prompt", 2, "--out", "e", "--json"))["new"] is False
    with pytest.raises(GokuError, match="was planned without a model"):
        goku("sample", "e")
    first = json.loads(goku("sample", "e", "--model", "models/tiny", "--shard", "1/2", "--batch", 3, "--json"))
    assert (first["written"], first["drawn"], first["batch"]) == (6, 6, 3)
    assert {s.drawing.model for s in manifest.read(place / "e/manifest.parquet")} == {
        locate(place, "models/tiny").digest
    }
    second = json.loads(goku("sample", "e", "--shard", "2/2", "--json"))
    assert (second["written"], second["drawn"]) == (4, 10)
    with pytest.raises(GokuError, match="begun with --batch 3, not 4"):
        goku("sample", "e", "--batch", 4)
    state = json.loads(goku("status", "e", "--json"))
    assert (state["planned"], state["drawn"]) == (10, 10)
    assert state["dimensions"] == {"geneval": {"planned": 10, "judged": 0}}
    assert "10 of 10 samples drawn" in goku("status", "e")
    assert json.loads(goku("export", "e", "official", "--json"))["files"] == 10
    with pytest.raises(GokuError, match=r"of 20 samples are missing.*--per-prompt"):
        goku("import", "geneval", "official", "--out", "b")
    came = json.loads(goku("import", "geneval", "official", "--out", "b", "--per-prompt", 2, "--json"))
    assert (came["taken"], came["surplus"]) == (10, [])
    assert json.loads((place / "b/suite.json").read_text())["notice"].endswith("(official)")
    samples = manifest.read(place / "b/manifest.parquet")
    for sample in samples:
        assert sampling.place(place / "e", sample).read_bytes() == sampling.place(place / "b", sample).read_bytes()
    assert json.loads(goku("import", "geneval", "official", "--out", "b", "--json"))["kept"] == 10
    with pytest.raises(GokuError, match="came from elsewhere"):
        goku("sample", "b", "--model", "models/tiny")


def test_clips_of_a_rewritten_plan(place):
    def longer(asked):
        return Reply("On a plain ground and in even light there is " + asked.prompt.rsplit("Prompt: ", 1)[1])

    goku("plan", "vbench", "--limit", 2, "--per-prompt", 1, "--out", "plain")
    with ChatServer(longer) as server:
        made = json.loads(goku("rewrite", "plain", "--url", server.url, "--model", "qwen", "--json"))
    assert made["prompts"] == 2 and made["label"].startswith("qwen-")
    asked = ["plan", "vbench", "--limit", 2, "--per-prompt", 1, "--steps", 1, "--frames", 5, "--model", "models/tiny"]
    goku(*asked, "--rewriting", "plain/rewriting.parquet", "--out", "dagger")
    samples = manifest.read(place / "dagger/manifest.parquet")
    assert {s.drawing.rewriting for s in samples} == {made["label"]}
    assert all(s.asked.endswith(s.prompt.text) and s.asked != s.prompt.text for s in samples)
    assert (place / "dagger/rewriting.parquet").read_bytes() == (place / "plain/rewriting.parquet").read_bytes()
    assert json.loads(goku("sample", "dagger", "--json"))["written"] == 2
    assert sorted(p.suffix for p in (place / "dagger/samples").iterdir()) == [".mp4", ".mp4"]
    goku("export", "dagger", "official")
    took = ("--suite", "grammar", "--limit", 2, "--per-prompt", 1, "--rewriting", "plain/rewriting.parquet")
    goku("import", "vbench", "official", *took, "--out", "theirs")  # what others drew is labelled as well
    assert {s.drawing.rewriting for s in manifest.read(place / "theirs/manifest.parquet")} == {made["label"]}
    with pytest.raises(GokuError, match="planned with a rewriting already"):
        goku("rewrite", "dagger", "--url", "http://127.0.0.1:9/v1", "--model", "qwen")


def test_another_plan_is_refused_with_its_first_difference(place):
    goku("plan", "dpg", "--limit", 3, "--out", "e")
    before = (place / "e/manifest.parquet").read_bytes()
    for changed, says in [
        (("--limit", 3, "--seed", 1), "seed of dpg-00000-0"),
        (("--limit", 3, "--steps", 9), "steps of dpg-00000-0 is None there, 9 in the plan"),
        (("--limit", 3, "--model", "models/tiny"), r"model of dpg-00000-0 is '' there, '[0-9a-f]{64}' in the plan"),
        ((), "sample dpg-00008-0 is there where dpg-00001-0 is planned"),
    ]:
        with pytest.raises(GokuError, match=says):
            goku("plan", "dpg", *changed, "--out", "e")
    assert (place / "e/manifest.parquet").read_bytes() == before


def test_what_cannot_be_is_said(place):
    with pytest.raises(GokuError, match="--frames and --fps have no meaning"):
        goku("plan", "geneval", "--frames", 9, "--out", "e")
    with pytest.raises(GokuError, match=r"e/manifest\.parquet is missing: `goku evaluate plan` writes it"):
        goku("sample", "e", "--model", "models/tiny")
    (place / "clips").mkdir()
    with pytest.raises(
        GokuError, match="says nothing about its prompts: name the benchmark's prompt files with --suite"
    ):
        goku("import", "vbench", "clips", "--out", "e")
    with pytest.raises(GokuError, match="there is no such folder"):
        goku("import", "vbench", "nowhere", "--out", "e")
    goku("plan", "geneval", "--limit", 2, "--out", "g")
    with pytest.raises(GokuError, match="is a plan for geneval, not for vbench"):
        goku("import", "vbench", "clips", "--out", "g")
    with pytest.raises(GokuError, match="samples are not drawn"):
        goku("export", "g", "out")
