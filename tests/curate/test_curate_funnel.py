"""The whole stage on a small library in which every file has one fault, or none."""

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import cv2
import pyarrow.parquet as pq
import pytest

from goku_core.curate import Request, run
from goku_core.curate.table import SCHEMA
from goku_core.media import decode
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError

SHARED = Path(__file__).parents[3] / "shared" / "videos"


def curate(workspace: Path, name: str = "staging", cores: int = 2, request: Request | None = None):
    context = Context(workspace=workspace, staging=workspace / name, scratch=workspace / "scratch", cores=cores)
    report = run(request or Request(), context)
    return report, pq.read_table(context.staging / "data/clips.parquet")


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory, painter, new_library) -> Path:
    """One file per fault, two good videos, three good pictures."""
    library = new_library(tmp_path_factory.mktemp("curate") / "workspace")
    timed = [{"start": 0.0, "end": 2.4, "text": "a disc moving right"}, {"start": 2.5, "end": 5.0, "text": "another."}]
    good = library.video("good.mp4", painter.film([1, 2]), captions=timed)
    library.video("copy.mp4", (cv2.resize(f, (960, 720)) for f in painter.film([1, 2])), kbps=700)
    library.video("repaired.avi", painter.grainy(painter.film([3, 4])), codec="mpeg4", kbps=2000, caption="old format")
    library.video("short.mp4", painter.film([5]))
    library.video("small.mp4", (cv2.resize(f, (320, 240)) for f in painter.film([6, 7])))
    library.video("slow.mp4", painter.moving(8, 4.5, 15), fps=15)
    library.video("thin.mp4", painter.film([9, 10]), kbps=200)
    library.video("static.mp4", painter.static(11))
    library.video("shaking.mp4", painter.shaking(12))
    library.video("text.mp4", (painter.text(f) for f in painter.moving(13, 4.5)))
    library.bytes("cut.mp4", good.read_bytes()[: good.stat().st_size // 2])
    matroska = library.video("whole.mkv", painter.film([14, 15]), kbps=2400)
    library.rows.pop()
    library.bytes("cut.mkv", matroska.read_bytes()[: matroska.stat().st_size // 2])
    matroska.unlink()
    library.bytes("empty.mp4", b"")
    library.bytes("renamed.mp4", b"this is a letter\n" * 1000)
    for seed in (20, 21, 22):
        library.image(f"good-{seed}.jpg", painter.disc(painter.ground(seed), 0.4, seed), caption=f"disc {seed}")
    picture = painter.disc(painter.ground(20), 0.4, 20)
    library.image("copy.jpg", cv2.resize(picture, (853, 640), interpolation=cv2.INTER_CUBIC), quality=60)
    library.image("small.jpg", cv2.resize(picture, (320, 240)))
    library.image("text.jpg", painter.text(painter.ground(23)))
    library.bytes("cut.jpg", (library.raw / "good-21.jpg").read_bytes()[:9000], "image")
    library.bytes("letter.jpg", b"this is another letter\n" * 1000, "image")
    return library.write()


@pytest.fixture(scope="module")
def result(faulty: Path):
    return curate(faulty)


def rows_of(table, name: str) -> list[dict]:
    """Rows of one raw file."""
    return [row for row in table.to_pylist() if Path(row["uri"]).name == name]


@pytest.mark.parametrize(
    "name, outcome, reason",
    [
        ("short.mp4", "rejected", "seconds"),
        ("small.mp4", "rejected", "side"),
        ("slow.mp4", "rejected", "fps"),
        ("thin.mp4", "rejected", "kbps"),
        ("static.mp4", "rejected", "motion_low"),
        ("shaking.mp4", "rejected", "motion_high"),
        ("text.mp4", "rejected", "ocr_coverage"),
        ("cut.mp4", "failed", "truncated"),
        ("cut.mkv", "failed", "truncated"),
        ("empty.mp4", "failed", "empty"),
        ("renamed.mp4", "failed", "unreadable"),
        ("small.jpg", "rejected", "side"),
        ("text.jpg", "rejected", "ocr_coverage"),
        ("cut.jpg", "failed", "truncated"),
        ("letter.jpg", "failed", "unreadable"),
    ],
)
def test_every_fault_has_its_reason(result, name: str, outcome: str, reason: str) -> None:
    (row,) = rows_of(result[1], name)
    assert (row["outcome"], row["filter"]) == (outcome, reason), row["message"]
    assert len(row["message"]) > 10
    if outcome == "rejected":
        assert row["score"] is not None and row["threshold"] is not None


def test_good_files_are_kept(result) -> None:
    _, table = result
    first, second = rows_of(table, "good.mp4")
    assert first["outcome"] == second["outcome"] == "kept" and first["tier"] == "480p"
    assert first["end_pts"] == second["start_pts"]
    assert first["seconds"] == pytest.approx(2.5) and second["seconds"] == pytest.approx(2.5)
    assert (first["caption"], second["caption"]) == ("a disc moving right", "another.")
    assert second["text"] == f"another. motion: {round(second['motion'])}"
    for seed in (21, 22):
        (row,) = rows_of(table, f"good-{seed}.jpg")
        assert (row["outcome"], row["start_pts"], row["end_pts"], row["motion"]) == ("kept", 0, 1, None)
        assert row["text"] == row["caption"] == f"disc {seed}" and row["caption_source"] == "sidecar"


def test_the_better_of_two_copies_stays(result) -> None:
    _, table = result
    for first, second in zip(rows_of(table, "good.mp4"), rows_of(table, "copy.mp4"), strict=True):
        assert {first["outcome"], second["outcome"]} == {"kept", "rejected"}
        gone, stays = (first, second) if first["outcome"] == "rejected" else (second, first)
        assert gone["filter"] == "near_duplicate" and stays["clip_id"] in gone["message"]
        assert stays["quality_heuristic"] >= gone["quality_heuristic"]
    pictures = rows_of(table, "good-20.jpg") + rows_of(table, "copy.jpg")
    assert sorted(row["outcome"] for row in pictures) == ["kept", "rejected"]


def test_other_codecs_are_transcoded_once(result, faulty: Path) -> None:
    _, table = result
    rows = [row for row in table.to_pylist() if row["codec"] == "mpeg4"]
    assert [row["outcome"] for row in rows] == ["kept", "kept"]
    assert all(row["uri"] == f"data/transcoded/{row['media_id']}.mp4" for row in rows)
    copy = faulty / "staging" / rows[0]["uri"]
    assert [len(list(decode.frames(copy, row["start_pts"], row["end_pts"]))) for row in rows] == [60, 60]
    assert rows[0]["caption"] == "old format"
    assert len(list((faulty / "staging/data/transcoded").iterdir())) == 1


def test_nothing_is_lost(result, faulty: Path) -> None:
    report, table = result
    raw = pq.read_table(faulty / "data/raw.parquet")
    outcomes = Counter(table["outcome"].to_pylist())
    assert table.schema.equals(SCHEMA, check_metadata=False)
    assert set(table["media_id"].to_pylist()) == set(raw["media_id"].to_pylist())
    assert table.num_rows == outcomes["kept"] + outcomes["rejected"] + outcomes["failed"] == report.clips
    assert len(set(table["clip_id"].to_pylist())) == table.num_rows
    assert report.sources == raw.num_rows and report.kept == outcomes["kept"]
    assert b"px" in table.schema.field("motion").metadata[b"unit"]


def test_reports(result, faulty: Path) -> None:
    folder = faulty / "staging/reports/curation"
    funnel = json.loads((folder / "funnel.json").read_text())
    total = funnel["total"]
    assert total["in"] == total["kept"] + total["rejected"] + total["failed"]
    assert sum(kind["in"] for kind in funnel["kinds"].values()) == total["in"]
    reasons = {entry["filter"] for entry in funnel["why"]}
    assert reasons >= {"seconds", "side", "kbps", "fps", "motion_low", "motion_high", "ocr_coverage", "truncated"}
    assert all((folder / entry["file"]).stat().st_size > 500 for entry in funnel["examples"])
    shown = {entry["filter"] for entry in funnel["examples"]}
    assert shown >= {None, "motion_low", "ocr_coverage", "near_duplicate", "side"}
    clips = sorted((folder / "clips").glob("*.mp4"))
    assert 1 <= len(clips) <= 40 and decode.read_clip(clips[0], 0, 10**9, 24, 99, 16, 16).shape[0] == 48
    validation = json.loads((folder / "validation.json").read_text())
    assert validation["success"] and validation["expectations"] > 30
    assert not any("error" in entry for entry in validation["results"])


def test_page_shows_what_the_table_says(result, faulty: Path) -> None:
    _, table = result
    page = faulty / "staging/reports/curation.html"
    html = page.read_text()
    kept = table["outcome"].to_pylist().count("kept")
    assert f"{kept:,} of {table.num_rows:,} kept" in html
    files = set(re.findall(r'src="([^"]+)"', html))
    assert files and all((page.parent / file).is_file() for file in files)
    shown = {file.removeprefix("curation/") for file in files}
    written = {str(p.relative_to(page.parent / "curation")) for p in (page.parent / "curation").glob("*/*.*")}
    assert shown == written  # nothing is drawn that nobody sees
    assert str(faulty) not in html and not re.search(r"https?://", html)
    for name in ("motion", "ocr_coverage", "kbps", "clip_seconds"):
        assert f'id="measure-{name}"' in html
    assert "what stayed" in html  # the near-duplicate stands beside its twin


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_filters_the_clips(result, faulty: Path, tmp_path: Path) -> None:
    page = (faulty / "staging/reports/curation.html").as_uri()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--virtual-time-budget=5000"]

    def visible(choice: str) -> list[str]:
        address = f"{page}#gallery?{choice}"
        command = ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", address]
        dom = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True).stdout
        cards = re.findall(r'<article class="clip"[^>]*>.*?</article>', dom, re.DOTALL)
        seen = [card for card in cards if "hidden" not in card.split(">")[0]]
        assert f'<span id="count">{len(seen)}</span> of {len(cards)}' in dom
        assert all("s of the clip" in card for card in seen)  # the browser has read the file
        return seen

    gone = visible("outcome=rejected&filter=motion_low")
    assert gone and all("motion_low" in card for card in gone)
    fast = visible("outcome=kept&score=motion&least=0.5&order=down")
    scores = [float(re.search(r"<dt>motion</dt><dd>([\d.]+)", card).group(1)) for card in fast]
    assert scores == sorted(scores, reverse=True) and min(scores) >= 0.5
    assert visible("score=motion&least=100000") == []


def test_same_bytes_with_one_worker(result, faulty: Path) -> None:
    curate(faulty, "alone", cores=1)
    first, second = files(faulty / "staging"), files(faulty / "alone")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_thresholds_are_obeyed(faulty: Path) -> None:
    """The same files under other demands: what was rejected for one reason comes through."""
    workspace = faulty.parent / "lenient"
    (workspace / "data").mkdir(parents=True)
    (workspace / "data/raw").symlink_to(faulty / "data/raw")
    raw = pq.read_table(faulty / "data/raw.parquet")
    names = [Path(uri).name for uri in raw["uri"].to_pylist()]
    wanted = [names.index(name) for name in ("short.mp4", "thin.mp4", "text.jpg", "copy.jpg", "good-20.jpg")]
    pq.write_table(raw.take(wanted), workspace / "data/raw.parquet")
    request = Request(
        gate={"min_seconds": 1, "min_kbps": 50},
        tiers={name: {"ocr_max": 1.0} for name in ("480p", "720p", "1080p")},
        dedup={"max_hamming": -1},
        previews={"frames": 0, "clips": 0},
    )
    report, _ = curate(workspace, request=request)
    assert (report.kept_videos, report.kept_images, report.rejected, report.failed) == (3, 3, {}, {})


def test_nothing_collected_is_one_clear_error(tmp_path: Path, library) -> None:
    with pytest.raises(GokuError, match="goku run collect"):
        curate(tmp_path)
    library.bytes("a.mp4", b"x")
    library.rows[0]["outcome"] = "rejected"
    with pytest.raises(GokuError, match="no usable file"):
        curate(library.write())


def test_real_footage(library) -> None:
    if not SHARED.is_dir():
        pytest.skip("needs the sample footage in ../shared/videos")
    for path in sorted(SHARED.glob("*.mp4")):
        shutil.copy(path, library.raw / path.name)
        library.add(library.raw / path.name, "video")
    _, table = curate(library.write())
    for name in ("clip-360p-24fps.mp4", "clip-portrait-362x640.mp4"):
        (row,) = rows_of(table, name)
        assert (row["outcome"], row["filter"]) == ("rejected", "side")
    bunny = rows_of(table, "big-buck-bunny-480p-30s.mp4")
    # The cuts of this excerpt, looked up frame by frame: 285, 378 and 553.
    assert {round(row["start_seconds"] * 24) for row in bunny} >= {0, 285, 378, 553}
    assert sum(row["seconds"] for row in bunny) == pytest.approx(30.0)
    # It begins with two seconds of fading in, looked at too.
    assert (bunny[0]["filter"], round(bunny[0]["seconds"], 1)) == ("transition", 2.1)
    portrait = rows_of(table, "clip-portrait-480x640.mp4")
    # Looked at: two shots carry titles, and the portrait video a headline all through.
    assert [row["filter"] for row in bunny][-2:] == ["ocr_coverage"] * 2
    assert all(row["outcome"] == "kept" for row in bunny[1:-2])
    assert len(portrait) == 3 and {row["filter"] for row in portrait} == {"ocr_coverage"}
