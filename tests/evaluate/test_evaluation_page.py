"""evaluation.html: every number where it belongs, nothing invented, data never markup; looked at in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import PROGRAM, Browser
from evaluation_folder import HOSTILE, JUDGE, SIZE, boxes, planned, scene_of, write_folder
from finished_line import finished_line
from PIL import Image

from goku_core import report
from goku_core.evaluate.manifest import Prompt, plan
from goku_core.evaluate.page.bars import WIDTH, Bar, Tick, bars
from goku_core.evaluate.page.beside import Published, model_rows, sensitivity
from goku_core.evaluate.page.build import benchmark_view, write_line_page, write_page
from goku_core.evaluate.page.folder import opened
from goku_core.evaluate.page.rows import boxes_of, sample_rows, shown, words_of
from goku_core.evaluate.page.tables import gaps
from goku_core.evaluate.records import Record, RecordStore, evidence
from goku_core.evaluate.statistics import Score
from goku_core.evaluate.tables import Line, Table
from goku_core.pipeline.errors import GokuError

WRONG = ("geneval-00006-0", "geneval-00006-1", "geneval-00007-1", "geneval-00001-0", "motion-00001-0")
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")


def tables() -> list[Table]:
    lines = [
        Line("colors", Score(0.25, 0.125, 0.5), 4, 4, more={"chance": 0.0625, "moves_total": 0.1}),
        Line("position", Score(0.5, 0.25, 0.75), 4, 4, more={"moves_total": 0.4}),
        Line("scene", None, 0, 6, "not evaluated: needs Tag2Text Swin-B", more={"moves_total": 0.027}),
    ]
    official = [Line("colors", Score(0.375, 0.25, 0.5), 4, 4), *lines[1:]]
    total = Line("total", None, 8, 14, "without scene")
    return [
        Table("geneval", "corrected", tuple(lines), total, ("frames weigh alike",)),
        Table("geneval", "official", tuple(official), total, ("long clips weigh more",)),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("evaluations") / "mine", wrong=WRONG)


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return write_page(opened(folder), tables())


@pytest.fixture(scope="module")
def html(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def test_same_inputs_give_the_same_bytes(folder: Path, page: Path, html: str) -> None:
    assert write_page(opened(folder), tables()).read_text(encoding="utf-8") == html
    assert str(folder.parent) not in html and not re.search(r"https?://(?!www.w3.org/2000/svg)", html)


def test_every_line_says_its_number_or_what_it_lacks(html: str) -> None:
    row = {found[1]: found[0] for found in re.findall(r'(<tr[^>]*data-line="([^"]+)".*?</tr>)', html, re.DOTALL)}
    assert list(row) == ["colors", "position", "scene", "total"]
    for said in ("0.250", "0.125 to 0.500", "0.375", "0.250 to 0.500", "4 of 4", "0.062"):
        assert said in row["colors"], said
    assert "not evaluated: needs Tag2Text Swin-B" in row["scene"] and "0 of 6" in row["scene"]
    assert "0.000" not in row["scene"] and "<svg" not in row["scene"]  # what is missing is no zero
    assert "without scene" in row["total"]
    assert "colors: 0.250 corrected, 0.375 official" in html and "position: 0.500 corrected" not in html
    assert "frames weigh alike" in html and "long clips weigh more" in html


def test_bars_lie_where_the_numbers_are() -> None:
    drawn = bars([Bar("corrected", 0, 0.5, 0.25, 0.75)], 1.0, chance=0.125, ticks=[Tick("<other>", 0.625)])
    width = float(re.search(r'class="bar mode-0" x="0" y="\d+" width="([\d.]+)"', drawn)[1])
    low, high = map(float, re.search(r'class="whisker" d="M([\d.]+) [\d.]+H([\d.]+)', drawn).groups())
    chance = float(re.search(r'class="chance" x1="([\d.]+)"', drawn)[1])
    tick = float(re.search(r'class="published" x1="([\d.]+)"', drawn)[1])
    assert [v / WIDTH for v in (low, width, high, chance, tick)] == pytest.approx([0.25, 0.5, 0.75, 0.125, 0.625])
    assert "&lt;other&gt;" in drawn and "<other>" not in drawn


def test_published_rows_stand_in_their_own_unit() -> None:
    rows = [Published("Peer", {"colors": 0.8125, "total": 0.8485}, "its paper, Table 8", "rewritten prompts", True)]
    found = model_rows(tables(), rows)
    assert found["columns"] == ["total", "colors"] and found["unit"] == "in percent"
    assert [row["cells"] for row in found["rows"]] == [["–", "25.00"], ["–", "37.50"], ["84.85", "81.25"]]
    assert model_rows(tables(), []) is None
    shares = model_rows(tables()[:1], [Published("Peer", {"colors": 0.8}, "")])
    assert [row["cells"] for row in shares["rows"]] == [["0.250"], ["0.800"]]
    view = benchmark_view("geneval", tables(), rows)
    assert view["published"]["rows"][2]["label"] == "rewritten prompts" and view["headline"]["lacks"] == "without scene"


def test_what_moves_the_total_stands_first() -> None:
    found = sensitivity(tables()[0])
    assert [(one["name"], one["share"]) for one in found] == [
        ("position", 100.0), ("colors", 25.0), ("scene", pytest.approx(6.75))
    ]  # fmt: skip
    alike = tuple(Line(name, None, more={"moves_total": 1 / 6}) for name in "abcdef")
    assert sensitivity(Table("geneval", "official", alike, Line("total", None))) == []
    assert sensitivity(Table("geneval", "official", (), Line("total", None))) == []


def test_what_nobody_judged_is_named(tmp_path: Path) -> None:
    samples = planned()
    folder = write_folder(tmp_path / "some", samples)
    more = plan("geneval", "image", [Prompt("geneval-00099", "a cat", "colors", ("geneval", "style"))], 3, 0)
    from goku_core.evaluate import manifest

    manifest.write(folder / "manifest.parquet", [*samples, *more])
    found = {gap.dimension: (gap.have, gap.want, gap.drawn) for gap in gaps(opened(folder))}
    assert found == {"geneval": (24, 27, 24), "style": (0, 3, 0)}
    html = write_page(opened(folder), tables()).read_text(encoding="utf-8")
    assert "goku evaluate judge some" in html and "geneval/style" in html
    row = next(row for row in sample_rows(opened(folder)) if row["id"] == "geneval-00099-2")
    assert row["lacking"] == ["geneval", "style"] and "file" not in row


def test_no_evaluation_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(GokuError, match="goku evaluate"):
        opened(tmp_path)


def test_prompts_are_data(html: str) -> None:
    assert html.count("<script") == html.count("</script>") == 2  # the rows, the program
    assert "window.entered" in html and "<img" not in html and "onerror=" in html
    rows = json.loads(re.search(r'<script type="application/json" class="samples">(.*?)</script>', html, re.DOTALL)[1])
    assert (
        rows[0]["prompt"] == HOSTILE and rows[0]["said"][0]["boxes"][0]["at"] == boxes(scene_of(planned()[0]))[0]["box"]
    )


def test_evidence_of_many_kinds() -> None:
    box = {"label": "cat", "score": 0.5, "box": [1, 2, 3, 4]}
    assert boxes_of({"detections": [[], [box | {"color": "red"}], []]}) == [
        {"at": [1, 2, 3, 4], "name": "red cat 0.50"}
    ]
    assert boxes_of({"detections": [box | {"frame": 7}]})[0]["frame"] == 7 and boxes_of({}) == []
    answers = [{"question": "is it red?", "answer": "yes", "p": 0.91234}]
    assert words_of({"answers": answers, "caption": "a cat", "by_frame": [0.1] * 50, "ok": True}) == [
        "is it red?, yes, 0.9123", "caption: a cat", "ok: yes"
    ]  # fmt: skip


def test_the_lines_own_folder_has_its_page(tmp_path: Path) -> None:
    workspace = finished_line(tmp_path, curation=False)
    folder = workspace / "reports/evaluation"
    page = write_line_page(folder)
    html = page.read_text(encoding="utf-8")
    summary = json.loads((folder / "summary.json").read_text())
    low, high = summary["tasks"]["colors"]["interval"]
    assert f"{low:.3f} to {high:.3f}" in html and f"{summary['overall']['score']:.3f}" in html
    media = opened(folder).media
    tiled = {name: medium for name, medium in media.items() if medium.tile}
    singles = {shown["sample"] for shown in summary["singles"]}
    assert tiled and all(not media[name].tile for name in singles)
    # a tile is that sample's own place on the sheet: the picture itself lies beside it, written without loss
    sheet = summary["sheets"]["colors"]
    name = next(name for name in sheet["samples"] if name in singles)
    (folder / f"samples/{name}.png").rename(tmp_path / "own.png")
    left, top, width, height, *whole = opened(folder).media[name].tile
    own = np.asarray(Image.open(tmp_path / "own.png").convert("RGB"), float)
    with Image.open(folder / sheet["file"]) as opened_sheet:
        assert opened_sheet.size == tuple(whole)
        tile = np.asarray(opened_sheet.convert("RGB"), float)[top : top + height, left : left + width]
        other = np.asarray(opened_sheet.convert("RGB"), float)[top : top + height, left + width : left + 2 * width]
    assert np.abs(tile - own).mean() < 4 < np.abs(other - own).mean()
    assert 'href="evaluation/evaluation.html"' in report.build(workspace).read_text(encoding="utf-8")


@needs_browser
def test_a_browser_shows_tables_and_samples(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.ask("document.querySelector('[data-line=colors] td.num').textContent").startswith("0.250")
    assert browser.ask("getComputedStyle(document.querySelector('[data-line=colors] .bar')).fill") != "rgb(0, 0, 0)"
    assert browser.ask("document.getElementById('count').textContent") == "26 samples"
    wide = "[...document.querySelectorAll('#asks img')].slice(0, 4).every(i => i.naturalWidth === 112)"
    browser.wait("document.querySelectorAll('#asks article').length >= 12")
    browser.ask("document.getElementById('browser').scrollIntoView()")
    browser.wait(wide)


@needs_browser
def test_the_address_chooses_what_is_shown(browser: Browser, page: Path) -> None:
    def shown(address: str) -> set[str]:
        browser.open(page, address)
        ids = browser.ask("[...document.querySelectorAll('#asks .sample')].map(s => s.dataset.id)")
        count = int(browser.ask("document.getElementById('count').textContent").split()[0])
        assert count == len(ids)
        return set(ids)

    assert shown("#task=colors&verdict=wrong") == {"geneval-00006-0", "geneval-00006-1", "geneval-00007-1"}
    assert shown("#task=colors&verdict=right") == {"geneval-00007-0"}
    assert shown("#verdict=wrong") == set(WRONG)
    assert shown("#dimension=flicker") == {"motion-00000-0", "motion-00001-0"}
    assert shown("#text=SCENE+9%2C") == {"geneval-00009-0", "geneval-00009-1"}
    assert shown("#prompt=geneval-00010") == {"geneval-00010-0", "geneval-00010-1"}
    assert shown("#dimension=flicker&verdict=wrong") == set()  # a degree is neither right nor wrong
    # and what is chosen by hand stands in the address
    browser.open(page)
    browser.ask("document.querySelector('select[name=task]').value = 'colors'")
    browser.ask("document.getElementById('browser').dispatchEvent(new Event('input'))")
    assert browser.ask("location.hash") == "#task=colors"
    assert browser.ask("document.querySelectorAll('#asks .sample').length") == 4


@needs_browser
def test_boxes_lie_on_the_things(browser: Browser, page: Path, tmp_path: Path) -> None:
    sample = next(s for s in planned() if s.sample_id == "geneval-00007-0")
    (truth,) = boxes(scene_of(sample))
    browser.open(page, f"#prompt={sample.prompt.prompt_id}")
    browser.wait("document.querySelector('#asks img').naturalWidth === 112")
    place = "(n => { const r = n.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom] })"
    picture = np.array(browser.ask(f"{place}(document.querySelector('#asks img'))"))
    drawn = np.array(browser.ask(f"{place}(document.querySelector('#asks rect.box'))"))
    scale = (picture[2] - picture[0]) / SIZE[1]
    assert (picture[3] - picture[1]) / SIZE[0] == pytest.approx(scale, rel=0.02)  # not distorted
    expected = np.array(truth["box"]) * scale + np.tile(picture[:2], 2)
    assert np.abs(drawn - expected).max() <= 2.0  # the line itself is 2 pixels wide
    # and what is seen agrees: within the box the thing's colour, its outline where it should be
    browser.shoot(tmp_path / "shot.png")
    pixels = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB"), int)
    left, top, _, bottom = np.round(expected).astype(int)
    line = pixels[(top + bottom) // 2, left - 3 : left + 4]
    assert (np.abs(line - [255, 43, 214]).max(axis=1) < 40).any()


@needs_browser
def test_clips_play(browser: Browser, page: Path) -> None:
    browser.open(page, "#prompt=motion-00000")
    browser.wait("document.querySelector('#asks video').currentTime > 0.3")
    first = browser.ask("document.querySelector('#asks video').currentTime")
    assert browser.ask("document.querySelector('#asks video').duration") == pytest.approx(3.0, abs=0.05)
    browser.wait(f"Math.abs(document.querySelector('#asks video').currentTime - {first}) > 0.2")
    assert browser.ask("document.querySelector('#asks polyline').getAttribute('points').split(' ').length") == 6
    assert "which way?: left" in browser.ask("document.querySelector('#asks figcaption').textContent")


@needs_browser
def test_a_prompt_stays_text(browser: Browser, page: Path) -> None:
    browser.open(page, "#prompt=geneval-00000")
    assert browser.ask("document.querySelector('#asks b').textContent") == HOSTILE
    assert browser.ask("typeof window.entered") == "undefined"
    browser.open(page, "#verdict=wrong&task=single_object")
    assert "found <b>this</b>" in browser.ask("document.querySelector('#asks figcaption').textContent")
    # what comes in by the address is text too
    browser.open(page, "#text=%3Cimg%20src%3Dx%20onerror%3D%22window.entered%3D1%22%3E")
    assert browser.ask("typeof window.entered") == "undefined"


@needs_browser
def test_five_thousand_samples(browser: Browser, tmp_path: Path) -> None:
    prompts = [Prompt(f"geneval-{k:05d}", f"prompt number {k}", "colors", ("geneval",)) for k in range(1250)]
    samples = plan("geneval", "image", prompts, 4, 0)
    folder = write_folder(tmp_path / "large", samples, wrong={s.sample_id for s in samples[::7]}, draw_them=False)
    page = write_page(opened(folder), tables())
    assert page.stat().st_size < 4_000_000
    browser.open(page)
    assert browser.ask("document.getElementById('count').textContent") == "5,000 samples"
    assert browser.ask("document.querySelectorAll('#asks article').length") < 200  # drawn as they come into sight
    taken = browser.ask(
        "(() => { const t = performance.now(); const f = document.getElementById('browser'); f.text.value = 'number 77';"
        " f.dispatchEvent(new Event('input')); return performance.now() - t })()"
    )
    assert browser.ask("document.getElementById('count').textContent") == "44 samples"  # 77 and 770 to 779, four each
    assert taken < 1000, taken  # ms; a person does not wait


def test_of_a_whole_set_some_are_shown() -> None:
    asked = [Prompt(f"geneval-{k:05d}", "a", "colors", ("geneval",)) for k in range(3)]
    whole = [Prompt(f"imagenet-{k:05d}", "", "set", ()) for k in range(1000)]
    ids = [
        s.sample_id for s in shown([*plan("geneval", "image", asked, 1, 0), *plan("imagenet", "image", whole, 1, 0)])
    ]
    assert ids[:3] == [f"geneval-{k:05d}-0" for k in range(3)]
    assert ids[3:] == [f"imagenet-{k:05d}-0" for k in range(0, 1000, 3)]


def test_numbers_of_a_whole_set_say_how_they_were_measured(tmp_path: Path) -> None:
    whole = plan("imagenet", "image", [Prompt(f"imagenet-{k:05d}", "", "set", ()) for k in range(2)], 1, 0)
    folder = write_folder(tmp_path / "set", whole, draw_them=False, judges={})
    saw = evidence(deviation=None, setting={"flavour": "adm", "resize": "tf1 bilinear", "samples": 2})
    number = Record("imagenet-set-0", "imagenet", "fid", "set", "", 0, "adm-0", "", 3.94, 2, None, "", saw)
    RecordStore(folder / "records").append([number])
    fid = Line("fid", Score(3.94, None, None), 2, 2, unit="distance")
    html = write_page(opened(folder), [Table("imagenet", "official", (fid,), fid)]).read_text(encoding="utf-8")
    assert "fid measured with" in html and "resize: tf1 bilinear" in html
    row = re.search(r'<tr[^>]*data-line="fid".*?</tr>', html, re.DOTALL)[0]
    assert "3.94 distance" in row and " to " not in row


def test_judges_are_named(html: str) -> None:
    assert JUDGE in html and "libavcodec" in html and "none needed" in html
