"""Versions of a small curated library, published by the real executor: listed, compared, shown, exported."""

import hashlib
import importlib.util
import io
import json
import shutil
import tarfile
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from goku_core.cli import app
from goku_core.curate import Request
from goku_core.dataset import details, difference, versions
from goku_core.dataset.cutting import cut
from goku_core.dataset.webdataset import export, key
from goku_core.media import decode
from goku_core.media.probe import probe
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.executor import execute
from goku_core.pipeline.line import Cell

OUTPUTS = ("data/clips.parquet", "data/transcoded", "reports/curation", "reports/curation.html")
NOTHING = {"previews": {"frames": 0, "clips": 0, "rejected_clips": 0}}


def ground(seed: int) -> np.ndarray:
    import cv2

    coarse = np.random.default_rng(seed).integers(60, 200, (5, 7, 3)).astype(np.uint8)
    return cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)


def film(path: Path, seeds: list[int], codec: str = "libx264", gop: int = 250, seconds: float = 2.5) -> None:
    """A box that crosses grounds, 24 frames per second; one shot for each seed."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        options = {"preset": "veryfast", "crf": "12"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=24, options=options)
        stream.pix_fmt, stream.height, stream.width, stream.gop_size = "yuv420p", 480, 640, gop
        if codec != "libx264":
            stream.bit_rate = 3_000_000
        for seed in seeds:
            still = ground(seed)
            for index in range(round(24 * seconds)):
                image = still.copy()
                x = 100 + 4 * index
                image[180:300, x : x + 120] = (20, 235, 60) if seed % 2 else (235, 30, 120)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """Two versions: the second demands more of quality, and one picture has come."""
    root = tmp_path_factory.mktemp("dataset")
    raw = root / "data/raw"
    raw.mkdir(parents=True)
    film(raw / "two.mp4", [1, 2])
    film(raw / "old.avi", [3, 4], codec="mpeg4")
    for seed in (5, 6):
        decode_write(raw / f"{seed}.png", ground(seed))
    (raw / "empty.mp4").write_bytes(b"")
    collect(root)
    curate(root, Request(gate={"min_kbps": 100}, **NOTHING))
    decode_write(raw / "7.png", ground(7))
    collect(root)
    least = round(float(np.median(qualities(root))), 3)
    curate(root, Request(gate={"min_kbps": 100}, quality_heuristic_min=least, **NOTHING))
    return root


def qualities(root: Path) -> list[float]:
    return [q for q in pq.read_table(root / "data/clips.parquet")["quality_heuristic"].to_pylist() if q is not None]


def decode_write(path: Path, image: np.ndarray) -> None:
    from goku_core.media.encode import write_image

    write_image(path, image)


def collect(root: Path) -> None:
    rows = []
    for path in sorted((root / "data/raw").iterdir()):
        data = path.read_bytes()
        kind = "image" if path.suffix == ".png" else "video"
        row = {"media_id": hashlib.sha256(data).hexdigest(), "uri": f"data/raw/{path.name}", "kind": kind}
        rows.append(row | {"bytes": len(data), "caption": f"this is {path.stem}", "captions": [], "outcome": "kept"})
    types = {"captions": pa.list_(pa.struct([("start", pa.float64()), ("end", pa.float64()), ("text", pa.string())]))}
    names = {"bytes": pa.int64()} | types
    schema = pa.schema([(name, names.get(name, pa.string())) for name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), root / "data/raw.parquet")


def curate(root: Path, request: Request) -> None:
    execute(Cell("curate", "curate", request, ("data/raw", "data/raw.parquet"), OUTPUTS), root)


@pytest.fixture
def goku(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(workspace)

    def run(*words: str):
        return CliRunner().invoke(app, list(words), catch_exceptions=False)

    return run


def test_versions_are_named_by_their_table(workspace: Path, goku) -> None:
    new, old = versions.versions(workspace)
    digest = hashlib.sha256((workspace / "data/clips.parquet").read_bytes()).hexdigest()
    assert digest.startswith(new.id) and new.current and not old.current
    assert new.record.report["version"] == new.id
    for name in ("current", "latest", new.id[:6], new.id):
        assert versions.version(workspace, name).id == new.id
    assert versions.version(workspace, "latest~1").id == old.id
    assert old.table().num_rows + 1 == new.table().num_rows
    listed = json.loads(goku("dataset", "ls", "--json").stdout)
    assert [one["version"] for one in listed] == [new.id, old.id]
    assert all(one["rows"] == one["kept"] + one["rejected"] + one["failed"] for one in listed)
    assert new.id in goku("dataset", "ls").stdout
    for wrong in ("latest~2", "ffffffff", "abc"):
        with pytest.raises(GokuError, match=new.id):
            versions.version(workspace, wrong)


def test_a_version_whose_bytes_are_gone_says_so(workspace: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy)
    old = versions.version(copy, "latest~1")
    old.file.chmod(0o644)
    old.file.unlink()
    old = versions.version(copy, old.id)
    assert old.file is None and old.as_json()["stored"] is False
    with pytest.raises(GokuError, match="goku run curate"):
        old.table()


def test_difference_says_what_and_why(workspace: Path, goku) -> None:
    new, old = versions.versions(workspace)
    found = difference.compare(old, new)
    before, after = ({r["clip_id"]: r for r in v.table().to_pylist()} for v in (old, new))
    assert {row["uri"] for row in found.added} == {"data/raw/7.png"} and found.removed == []
    changed = {a["clip_id"] for a, _ in found.changed}
    assert changed == {name for name in before if before[name]["outcome"] != after[name]["outcome"]} != set()
    assert all("quality_heuristic" in name for name in found.transitions())
    assert list(found.parameters) == ["quality_heuristic_min"]
    least = found.parameters["quality_heuristic_min"][1]
    assert any("data/raw.parquet" in cause for cause in found.causes)
    assert found.columns["outcome"] == len(changed) and "phash" not in found.columns
    told = goku("dataset", "diff", "latest~1", "latest").stdout
    assert f"quality_heuristic_min: 0.0 -> {least}" in told and "added: 1" in told
    facts = json.loads(goku("dataset", "diff", "latest", "latest~1", "--json").stdout)
    assert facts["removed"]["count"] == 1 and facts["changed"]["count"] == len(changed)
    same = difference.compare(new, new)
    assert (same.added, same.removed, same.changed, same.columns, same.parameters) == ([], [], [], {}, {})


def test_show_finds_clips_by_every_name(workspace: Path, goku, tmp_path: Path) -> None:
    version = versions.version(workspace, "latest~1")
    rows = [row for row in version.table().to_pylist() if row["uri"].endswith("two.mp4")]
    assert len(rows) == 2
    by_clip = details.details(workspace, version, rows[1]["clip_id"])
    assert [row["clip_id"] for row in by_clip["clips"]] == [rows[1]["clip_id"]] and "signature" not in by_clip["clips"][
        0
    ]
    assert (
        by_clip["sources"][0]["caption"] == "this is two"
        and by_clip["lineage"]["fingerprint"] == version.record.fingerprint
    )
    for name in (rows[0]["media_id"], rows[0]["media_id"][:8], "two.mp4", "data/raw/two.mp4"):
        assert len(details.details(workspace, version, name)["clips"]) == 2
    with pytest.raises(GokuError, match="nothing in this version"):
        details.details(workspace, version, "three.mp4")
    told = goku("dataset", "show", rows[1]["clip_id"], "--frames", str(tmp_path / "look"), "--count", "3", "--json")
    files = json.loads(told.stdout)["frames"]
    shown = [decode.read_image(Path(file)) for file in files]
    inside = [f.rgb() for f in decode.frames(workspace / rows[1]["uri"], rows[1]["start_pts"], rows[1]["end_pts"])]
    assert [next(i for i, f in enumerate(inside) if np.array_equal(f, image)) for image in shown] == [10, 30, 50]
    assert "kept" in goku("dataset", "show", "two.mp4").stdout


def frames_of(path: Path, start: int | None = None, end: int | None = None) -> list[np.ndarray]:
    return [frame.rgb() for frame in decode.frames(path, start, end)]


def test_clips_are_copied_where_that_is_exact(tmp_path: Path) -> None:
    """x264 puts key frames at cuts: the second shot starts with one. In the middle of a group it cannot be copied."""
    source = tmp_path / "source.mp4"
    film(source, [1, 2])
    ticks = [frame.pts for frame in decode.frames(source)]
    for first, last, expected in ((0, 60, "copied"), (60, 120, "copied"), (0, 120, "copied"), (7, 60, "encoded")):
        end = ticks[last] if last < 120 else ticks[-1] + 512
        target = tmp_path / f"{first}-{last}.mp4"
        assert cut(source, ticks[first], end, target) == expected
        there, wanted = frames_of(target), frames_of(source, ticks[first], end)
        assert len(there) == len(wanted) == last - first
        differs = max(float(np.abs(a.astype(int) - b).mean()) for a, b in zip(there, wanted, strict=True))
        assert differs == 0 if expected == "copied" else differs < 4
        info = probe(target)
        assert info.codec == "h264" and info.seconds == pytest.approx((last - first) / 24, abs=0.05)
        again = tmp_path / "again.mp4"
        cut(source, ticks[first], end, again)
        assert again.read_bytes() == target.read_bytes()
    with pytest.raises(GokuError, match="no frame"):
        cut(source, 10**9, 10**9 + 1, tmp_path / "none.mp4")


def test_frames_that_need_the_next_group_are_not_copied(tmp_path: Path) -> None:
    """Open groups of pictures: frames before a key frame are decoded after it."""
    source = tmp_path / "open.mp4"
    with av.open(str(source), "w") as container:
        options = {
            "preset": "veryfast",
            "x264-params": "open-gop=1:keyint=24:min-keyint=24:bframes=3:scenecut=0:b-adapt=0",
        }
        stream = container.add_stream("libx264", rate=24, options=options)
        stream.pix_fmt, stream.height, stream.width = "yuv420p", 96, 128
        for index in range(96):
            image = np.roll(ground(1)[:96, :128], index, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(source)) as container:
        packets = [(p.pts, p.is_keyframe) for p in container.demux(video=0) if p.pts is not None]
    keyed = [pts for pts, is_key in packets if is_key]
    leading = [k for k in keyed[1:] if any(p < k for p, _ in packets[packets.index((k, True)) + 1 :])]
    assert leading, "this encoder made no open group"
    target = tmp_path / "cut.mp4"
    assert cut(source, leading[0], leading[0] + 24 * 512, target) == "encoded"
    assert len(frames_of(target)) == 24


@pytest.fixture(scope="module")
def exported(workspace: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "out"
    export(workspace, versions.version(workspace, "latest~1"), folder, per_shard=3)
    return folder


def samples_of(folder: Path) -> dict[str, dict[str, bytes]]:
    """As readers of WebDataset do: files in a row that share what stands before the first dot are a sample."""
    found: dict[str, dict[str, bytes]] = {}
    last = None
    for shard in sorted(folder.glob("clips-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                name, _, ending = member.name.partition(".")
                assert name == last or name not in found, "the files of a sample stand together"
                last = name
                found.setdefault(name, {})[ending] = tar.extractfile(member).read()
                assert (member.mtime, member.uid, member.uname, member.mode) == (0, 0, "", 0o644)
    return found


def test_export_is_a_webdataset(workspace: Path, exported: Path) -> None:
    rows = [r for r in versions.version(workspace, "latest~1").table().to_pylist() if r["outcome"] == "kept"]
    samples = samples_of(exported)
    assert set(samples) == {key(row) for row in rows} and len(rows) == 6
    for row in rows:
        sample = samples[key(row)]
        assert set(sample) == {"json", "txt", "mp4" if row["kind"] == "video" else "png"}
        assert sample["txt"].decode() == row["text"]
        facts = json.loads(sample["json"])
        assert facts["clip_id"] == row["clip_id"] and "signature" not in facts and "uri" not in facts
        if row["kind"] == "video":
            with av.open(io.BytesIO(sample["mp4"])) as container:
                assert sum(1 for _ in container.decode(video=0)) == 60
        else:
            assert hashlib.sha256(sample["png"]).hexdigest() == row["media_id"]
    index = json.loads((exported / "index.json").read_text())
    for shard in index["shards"]:
        assert hashlib.sha256((exported / shard["name"]).read_bytes()).hexdigest() == shard["sha256"]
    assert sum(shard["samples"] for shard in index["shards"]) == 6 and len(index["shards"]) == 2


def test_the_reader_of_webdataset_agrees(exported: Path) -> None:
    if importlib.util.find_spec("webdataset") is None:
        pytest.skip("needs the package webdataset")
    import webdataset

    urls = [str(path) for path in sorted(exported.glob("*.tar"))]
    assert len(list(webdataset.WebDataset(urls, shardshuffle=False))) == 6


def test_a_stopped_export_goes_on_and_ends_with_the_same_bytes(workspace: Path, exported: Path, tmp_path: Path) -> None:
    version = versions.version(workspace, "latest~1")
    folder = tmp_path / "out"

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(workspace, version, folder, 3, progress=stop)
    assert [path.name for path in sorted(folder.glob("clips-*.tar"))] == ["clips-000000.tar"]
    assert not (folder / "index.json").exists()
    (folder / ".clips-000001.tar.partial").write_bytes(b"cut off")
    done = export(workspace, version, folder, 3)
    assert (done.shards, done.written) == (2, 1)
    for path in sorted(exported.iterdir()):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(GokuError, match="another export"):
        export(workspace, version, folder, 4)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("x")
    with pytest.raises(GokuError, match="not empty"):
        export(workspace, version, tmp_path / "full")


def test_what_if_and_export_on_the_command_line(workspace: Path, goku, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[2] / "params/nano.yaml", workspace / "params.yaml")
    told = json.loads(goku("curate", "--what-if", "quality=9.9", "--version", "latest~1", "--json").stdout)
    assert told["before"]["kept"] == 6 == told["goes_out"]["count"] and told["after"]["kept"] == 0
    assert told["goes_out"]["examples"][0]["filter"] == "quality_heuristic"
    text = goku("curate", "--what-if", "quality=9.9", "--version", "latest~1").stdout
    assert "goes out: 6" in text and "quality heuristic" in text
    done = json.loads(goku("dataset", "export", "--webdataset", str(tmp_path / "o"), "--json").stdout)
    assert done["samples"] == versions.version(workspace).record.report["kept"]
    assert sum(done["cut"].values()) == done["samples"]
