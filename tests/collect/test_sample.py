"""The sample corpus: same bytes for any number of children, every kind of bad file, captions where they belong."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from goku_core.collect import Request, run
from goku_core.collect.collection import Report
from goku_core.collect.request import SampleCorpus
from goku_core.collect.sample import corpus, image_scene, video_shots
from goku_core.pipeline.context import Context

SMALL = {
    "videos": 2,
    "images": 6,
    "height": 96,
    "width": 160,
    "shots_per_video": (2, 2),
    "shot_seconds": (1.0, 1.5),
    "bitrate_kbps": 200,
}


def collected(folder: Path, *, cores: int, seed: int = 7, **changes: object) -> Report:
    request = Request(sample=SampleCorpus(**(SMALL | changes)))
    return run(request, Context(folder, folder, folder, seed=seed, cores=cores))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("corpus")
    return folder, collected(folder, cores=2)


def rows(folder: Path) -> list[dict]:
    return pq.read_table(folder / "data/raw.parquet").to_pylist()


def by_recipe(folder: Path, **wanted: object) -> Path:
    """The file whose recipe has these values, the only one."""
    (name,) = [name for name, recipe in corpus(SampleCorpus(**SMALL), 7) if wanted.items() <= vars(recipe).items()]
    return folder / "data/raw" / name


def test_same_bytes_for_any_number_of_children_and_another_seed_differs(
    small: tuple[Path, Report], tmp_path: Path
) -> None:
    folder, _ = small
    (tmp_path / "one").mkdir()
    collected(tmp_path / "one", cores=1)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
    assert image_scene(7, 0) != image_scene(8, 0)


def test_counts_add_up(small: tuple[Path, Report]) -> None:
    folder, report = small
    table = rows(folder)
    assert report.files == len(table) == report.kept + report.rejected + report.failed
    assert report.kinds == {"image": 6 + 5, "video": 2 + 15}
    assert report.filters == {"duplicate": 2, "empty": 2}
    assert Counter(row["outcome"] for row in table) == {"kept": 24, "rejected": 2, "failed": 2}
    assert [row["uri"] for row in table] == sorted(row["uri"] for row in table)
    assert report.bytes == sum((folder / row["uri"]).stat().st_size for row in table)


def test_names_say_nothing(small: tuple[Path, Report]) -> None:
    folder, _ = small
    names = [path.stem for path in (folder / "data/raw").iterdir()]
    assert all(name[:4] in ("vid_", "img_") and name[4:].isdigit() for name in names)


def test_every_bad_file_is_there(small: tuple[Path, Report]) -> None:
    folder, _ = small

    def opened(path: Path) -> tuple[str, float, int, int]:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            seconds = container.duration / av.time_base
            return stream.codec_context.name, seconds, stream.average_rate, stream.codec_context.height

    assert opened(by_recipe(folder, shots=1, shot_seconds=3.0))[1] == pytest.approx(3.0, abs=0.05)
    assert opened(by_recipe(folder, kind="video", height=72))[3] == 72
    assert by_recipe(folder, kind="video", grain=0.0).stat().st_size > 0
    assert opened(by_recipe(folder, fps=15))[2] == 15
    assert opened(by_recipe(folder, codec="libx265"))[0] == "hevc"
    assert opened(by_recipe(folder, codec="mpeg4"))[0] == "mpeg4"
    assert opened(by_recipe(folder, kind="video", height=108))[3] == 108
    assert by_recipe(folder, kind="video", damage="empty").stat().st_size == 0
    assert by_recipe(folder, damage="not-media").read_text().startswith("This is a note")
    assert by_recipe(folder, kind="image", height=36).exists()

    truncated = by_recipe(folder, kind="video", damage="truncated")
    assert opened(truncated)[0] == "h264", "its header is readable"
    with av.open(str(truncated)) as container:
        promised, decoded = container.streams.video[0].frames, 0
        with suppress(av.error.FFmpegError):
            for _ in container.decode(video=0):
                decoded += 1
    assert 0 < decoded < promised
    with pytest.raises(av.error.FFmpegError):
        av.open(str(by_recipe(folder, damage="headless")))
    picture = by_recipe(folder, kind="image", damage="truncated").read_bytes()
    assert picture[:2] == b"\xff\xd8" and not picture.endswith(b"\xff\xd9")


def luma(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)]).astype(float)


def test_still_shaking_and_text(small: tuple[Path, Report]) -> None:
    folder, _ = small
    still, shaking, text = (luma(by_recipe(folder, effect=effect)) for effect in ("still", "shake", "text"))
    blocks = still.reshape(len(still), 12, 8, 20, 8).mean((2, 4))
    assert np.abs(blocks[48] - blocks[24]).max() < 6, "nothing but grain changes"
    assert np.abs(shaking[6] - shaking[0]).mean() > 2 * np.abs(still[6] - still[0]).mean()
    assert (text[0] > 225).mean() > 0.01


def test_sidecars(small: tuple[Path, Report]) -> None:
    folder, report = small
    table = {row["uri"]: row for row in rows(folder)}
    sample = SampleCorpus(**SMALL)
    (name,) = [n for n, r in corpus(sample, 7) if r.kind == "video" and r.index == 0 and r.height == 96]
    shots = video_shots(sample, 7, 0, 24)
    captions = table[f"data/raw/{name}"]["captions"]
    assert [c["text"] for c in captions] == [shot.caption for shot in shots]
    assert captions[0]["start"] == 0
    assert captions[-1]["end"] == pytest.approx(sum(shot.frames for shot in shots) / 24, abs=1e-5)
    assert report.captioned == report.files - 3  # two empty files and the renamed note have none
    picture = by_recipe(folder, kind="image", index=3)
    assert json.loads(picture.with_suffix(".json").read_text()) == {"caption": image_scene(7, 3)[1]}


def test_without_bad_files(tmp_path: Path) -> None:
    report = collected(tmp_path, cores=1, bad_files=False, images=2)
    assert (report.files, report.kept) == (4, 4)


def test_table_has_the_agreed_columns(small: tuple[Path, Report]) -> None:
    schema = pq.read_schema(small[0] / "data/raw.parquet")
    assert schema.names == [
        "media_id",
        "uri",
        "kind",
        "bytes",
        "caption",
        "captions",
        "outcome",
        "filter",
        "message",
        "source",
    ]
    assert schema.field("bytes").type == pa.int64()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shots_per_video": (3, 1)}, "shots_per_video"),
        ({"shot_seconds": (4.0, 2.0)}, "shot_seconds"),
        ({"fps": 0}, "fps"),
        ({"heigth": 480}, "heigth"),
        ({"height": 481}, "height"),
    ],
)
def test_impossible_settings_name_the_key(changes: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SampleCorpus(**(SMALL | changes))
