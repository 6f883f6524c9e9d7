"""The page: complete, self-contained, escaped; honest about what has not run."""

import json
import re
import shutil
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from finished_line import finished_line
from rich.console import Console

from goku_core import report
from goku_core.report.charts import curve, smoothed, ticks
from goku_core.report.facts import gather
from goku_core.report.table import print_summary

SECTIONS = ("line", "score", "samples", "training", "vae", "curation", "lineage")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return finished_line(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def html(workspace):
    return report.build(workspace).read_text(encoding="utf-8")


def test_every_section_is_there_with_its_content(html):
    assert all(f'<section id="{name}">' in html for name in SECTIONS)
    assert "has not run" not in html
    for said in ("Version 3", "data/raw/slow.mp4", "zero bytes", "joint_low", "41.5 samples/s", "34.2 dB", "c0ffee"):
        assert said in html, said
    assert html.count("<video") >= 4 + 1 + 1 + 6 and html.count('class="curve"') == 5
    assert html.count('class="tile') >= 6 * 24


def test_nothing_is_loaded_from_outside(html):
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)|url\(["']?([^"')]+)""", html)
    assert loaded and all((a or b).startswith(("data:", "#")) for a, b in loaded)
    outside = set(re.findall(r"https?://[^\s\"'<)]+", html))
    assert not outside, outside


def test_prompts_are_escaped(html):
    assert "a star &amp; a &lt;b&gt;square&lt;/b&gt;" in html and "<b>square" not in html


def test_the_same_workspace_gives_the_same_page(workspace, html):
    assert report.build(workspace).read_text(encoding="utf-8") == html


def test_an_empty_workspace_says_what_has_not_run(tmp_path):
    html = report.build(tmp_path).read_text(encoding="utf-8")
    assert all(f'<section id="{name}">' in html for name in SECTIONS)
    assert html.count("has not run") == 5 and "no champion yet" in html


def test_stages_in_the_middle_may_be_missing(tmp_path):
    finished_line(tmp_path, curation=False)
    html = report.build(tmp_path).read_text(encoding="utf-8")
    assert html.count("has not run") == 1 and "goku run curate" in html


def test_a_changed_output_is_not_shown_as_done(tmp_path):
    finished_line(tmp_path)
    (tmp_path / "models/vae/model.safetensors").write_bytes(b"other")
    pieces = {piece.name: piece.current for piece in gather(tmp_path).pieces}
    assert pieces["vae"] is False and pieces["curate"] is True


def test_table(workspace):
    said = StringIO()
    print_summary(workspace, Console(file=said, width=200))
    text = said.getvalue()
    for part in ("9 of 12 candidates", "1 truncated", "33.1 dB", "60 steps", "41.5 samples/s", "95 % interval"):
        assert part in text, part
    assert "version 3, promoted" in text and "chance 0.25" in text


def test_curve_and_its_parts():
    assert curve([1], [2.0], "x") == ""
    assert 'class="soft"' in curve([1, 2, 3], [3.0, float("nan"), 1.0], "x <y>") and "&lt;y&gt;" in curve(
        [1, 2], [1, 2], "<y>"
    )
    assert smoothed([2.0, 2.0, 2.0]) == pytest.approx([2.0] * 3)
    assert ticks(0.0, 1.0, 4) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_draws_it(workspace, html, tmp_path):
    from PIL import Image

    shot = tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += ["--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,2400"]
    page = (workspace / "reports/index.html").as_uri()
    subprocess.run(["chromium", *flags, f"--screenshot={shot}", page], check=True, timeout=120, capture_output=True)
    picture = Image.open(shot).convert("L")
    assert picture.size == (1280, 2400)
    low, high = picture.getextrema()
    assert high - low > 150


def test_a_rollback_is_the_newest_decision(tmp_path: Path) -> None:
    root = finished_line(tmp_path)
    (root / "ledger").mkdir()
    entry = {
        "number": 4,
        "version": 2,
        "decision": "rolled-back",
        "bundle": "cd" * 32,
        "reason": "by hand: version 3 flickers",
    }
    (root / "ledger/000004.json").write_text(json.dumps(entry))
    told = StringIO()
    print_summary(root, Console(file=told, width=200))
    assert "version 2, rolled-back (by hand: version 3 flickers)" in told.getvalue()
    html = report.build(root).read_text(encoding="utf-8")
    assert "rolled-back" in html and "cdcdcdcdcdcd" in html


def test_the_page_of_the_evaluation_has_an_address_beside_the_others(tmp_path):
    place = tmp_path / "reports/evaluation"
    place.mkdir(parents=True)
    report.build(tmp_path)
    assert not (tmp_path / "reports/evaluation.html").exists()
    (place / "evaluation.html").write_text("tables")
    report.build(tmp_path)
    assert '"evaluation/evaluation.html" + location.hash' in (tmp_path / "reports/evaluation.html").read_text()
