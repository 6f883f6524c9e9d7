"""`goku evaluate judge` and `judges`, on folders of real files."""

from __future__ import annotations

import json

import pytest
import typer
from judged_folder import evaluation_folder
from typer.testing import CliRunner

from goku_core import cli_judge
from goku_core.evaluate.judges.judge import JUDGES
from goku_core.evaluate.records import RecordStore


@pytest.fixture
def app():
    made = typer.Typer()
    cli_judge.register(made)
    return lambda *arguments: CliRunner().invoke(made, [str(a) for a in arguments])


def test_judging_a_folder_tells_what_is_there_and_what_is_not(app, tmp_path):
    folder = evaluation_folder(tmp_path, pictures=3, clips=0)
    given = ("judge", folder, "--judge", "odd_judges:first", "--judge", "odd_judges:needy", "--device", "cpu")
    done = app(*given, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["new"], told["decodes"], told["unjudged"]) == (3, 3, [])
    assert told["left_out"] == {"odd_judges:needy": "weights/none; get it: nowhere"}
    assert len(RecordStore(folder / "records").rows()) == 3
    done = app(*given)
    assert (
        "0 new records, 3 were there" in done.stdout and "left out: odd_judges:needy needs weights/none" in done.stdout
    )
    (folder / "samples/odd-00001-0.png").unlink()
    done = app(*given)
    assert done.exit_code == 1 and "1 samples are not drawn yet: goku evaluate sample" in done.stdout


def test_every_judge_is_listed_with_what_it_lacks(app, tmp_path):
    rows = json.loads(app("judges", "--weights", tmp_path / "none", "--json").stdout)
    assert [row["judge"] for row in rows] == list(JUDGES)
    for row in rows:
        assert row["dimensions"] and all("/" in dimension for dimension in row["dimensions"])
        assert row["ready"] == (not row["missing"])
        if not row["ready"]:
            assert row["licences"] and "none" in row["missing"], "what is missing names the place below --weights"
    ready = {row["judge"] for row in rows if row["ready"]}
    assert ready >= {"contour", "direction", "flicker", "embedded", "first_frame"}
    assert "answers  geneval/geneval, i2v/subject, motion/subject" in app("judges").stdout
