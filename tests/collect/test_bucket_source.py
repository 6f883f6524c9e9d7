"""A bucket as a source, against a real S3 server: read as a folder is, in the fingerprint by its listing."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
from media_server import film
from object_store import object_store

from goku_core import curate
from goku_core.collect import Request, run
from goku_core.collect.request import SampleCorpus
from goku_core.config import load_params
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.executor import Outcome, execute
from goku_core.pipeline.line import Cell, cells, select
from goku_core.pipeline.plan import plan
from goku_core.storage import Bucket

QUICK = {"retries": 1, "backoff_seconds": 0.01, "unreachable_max": 1}


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with object_store("films", "others") as url:
        yield url


@pytest.fixture
def bucket(store: str, request: pytest.FixtureRequest) -> Bucket:
    """A prefix of its own for each test."""
    return Bucket("films", f"{request.node.name}/")


def source(bucket: Bucket) -> str:
    return f"s3://{bucket.name}/{bucket.prefix}".rstrip("/")


def collected(place: str, workspace: Path, **download: object) -> dict[str, dict]:
    workspace.mkdir(exist_ok=True)
    staging = workspace / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    request = Request(source=place, download={**QUICK, **download})
    run(request, Context(workspace, staging, workspace, fingerprint="work", cores=2))
    return {row["source"]: row for row in pq.read_table(staging / "data/raw.parquet").to_pylist()}


def test_a_bucket_is_read_as_a_folder_is(bucket: Bucket, tmp_path: Path) -> None:
    objects = {
        "a.mp4": film(1),
        "a.json": b'{"caption": "a dog"}',
        "deep/b.mov": film(2),
        "deep/b.mov.txt": b"a cat\n runs",
        "deep/copy.mp4": film(1),
        "notes.pdf": b"paper",
        "broken.mp4": b"no film at all",
        "empty.mp4": b"",
        ".hidden.mp4": film(3),
        ".trash/c.mp4": film(4),
        "folder/": b"",
        "ünïcode name?#.mp4": film(5),
    }
    for key, content in objects.items():
        bucket.put_if_absent(key, content)
    Bucket("films", bucket.prefix.rstrip("/") + "-of-others/").put_if_absent("x.mp4", film(6))
    rows = collected(source(bucket), tmp_path)
    names = {address.removeprefix(source(bucket) + "/"): row for address, row in rows.items()}
    assert {name: (row["outcome"], row["filter"], row["caption"]) for name, row in names.items()} == {
        "a.mp4": ("kept", None, "a dog"),
        "deep/b.mov": ("kept", None, "a cat runs"),
        "deep/copy.mp4": ("rejected", "duplicate", None),
        "notes.pdf": ("rejected", "type", None),
        "broken.mp4": ("failed", "content-type", None),
        "empty.mp4": ("failed", "empty", None),
        "ünïcode name?#.mp4": ("kept", None, None),
    }
    assert names["a.mp4"]["uri"] == f"data/raw/{hashlib.sha256(film(1)).hexdigest()}.mp4"


def test_pieces_of_an_object_are_completed_by_range(bucket: Bucket, tmp_path: Path) -> None:
    """What a killed run left is the beginning of the same version: only the rest is asked for."""
    from goku_core.collect.download.cache import Cache, Known, name_of

    content = film(7, 100_000)
    bucket.put_if_absent("a.mp4", content)
    entry = bucket.head("a.mp4")
    assert entry is not None
    name = name_of(f"{source(bucket)}/a.mp4")
    for beginning, etag, arrives in ((content[:60_000], entry.etag, 40_000), (film(8, 60_000), '"older"', 100_000)):
        workspace = tmp_path / str(arrives)
        with Cache.opened(workspace / ".goku/cache/downloads") as cache:
            cache.note(name, Known(etag, "", 100_000))
            cache.piece(name).write_bytes(beginning)
        staging = workspace / "staging"
        report = run(Request(source=source(bucket)), Context(workspace, staging, workspace, cores=2))
        assert (report.kept, report.received_bytes) == (1, arrives)
        (file,) = (staging / "data/raw").iterdir()
        assert file.read_bytes() == content


def test_objects_in_a_list_and_failures_of_a_store(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Bucket("films").put_if_absent("listed.mp4", film(1))
    (tmp_path / "list.txt").write_text("s3://films/listed.mp4\ns3://films/nowhere.mp4\ns3://nobucket/a.mp4\n")
    rows = collected("list.txt", tmp_path)
    assert [(row["outcome"], row["filter"]) for row in rows.values()] == [
        ("kept", None),
        ("failed", "http-404"),
        ("failed", "http-404"),
    ]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    (tmp_path / "list.txt").write_text("s3://others/listed.mp4\n")
    with pytest.raises(GokuError, match="1 connect"):
        collected("list.txt", tmp_path, retries=0)


def test_without_credentials_that_is_said(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it has found some before
    with pytest.raises(GokuError, match="credentials"):
        collected("s3://films/x", tmp_path)


def test_a_bad_prefix_is_one_clear_error(store: str, tmp_path: Path) -> None:
    for place, said in (
        ("s3://films/nothing", "nothing below"),
        ("s3://absent/x", "s3://absent/x"),
        ("s3://", "bucket"),
    ):
        with pytest.raises(GokuError, match=said):
            collected(place, tmp_path)


def test_the_listing_is_part_of_the_fingerprint(bucket: Bucket, tmp_path: Path) -> None:
    cell = Cell(
        "collect", "collect", Request(source=source(bucket)), (source(bucket),), ("data/raw", "data/raw.parquet")
    )

    def outcome() -> Outcome:
        return execute(cell, tmp_path)

    bucket.put_if_absent("a.mp4", film(1))
    first = outcome()
    assert first.status == "ran" and outcome().status == "already-done"
    client = boto3.client("s3")
    client.put_object(Bucket="films", Key=f"{bucket.prefix}a.mp4", Body=film(2))
    (entry,) = plan([cell], tmp_path)
    assert entry.state == "run" and entry.why == (f"input {source(bucket)}: changed",)
    second = outcome()
    assert second.status == "ran" and second.record.output_digests() != first.record.output_digests()
    client.put_object(Bucket="films", Key=f"{bucket.prefix}a.mp4", Body=film(1))
    assert outcome().status == "restored", "the older version has been done before"


def test_a_plan_without_the_store_still_speaks_of_the_rest(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    cell = Cell(
        "collect", "collect", Request(source=source(bucket)), (source(bucket),), ("data/raw", "data/raw.parquet")
    )
    (entry,) = plan([cell], tmp_path)
    assert entry.state == "run" and "s3://films" in entry.why[0]


def test_the_line_on_a_bucket_is_that_on_the_folder(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample corpus, once from disk and once from a bucket: the same media and captions; and curation goes on from there."""
    monkeypatch.setenv("GOKU_CORES", "1")
    small = SampleCorpus(videos=1, images=1, height=96, width=160, shots_per_video=(2, 2), shot_seconds=(1.3, 1.5),
                         bitrate_kbps=200, bad_files=False)  # fmt: skip
    made = tmp_path / "made"
    run(Request(sample=small), Context(made, made, made, seed=7))
    for file in sorted((made / "data/raw").iterdir()):
        bucket.put(file, f"2026/{file.name}")
    params = load_params(Path(__file__).resolve().parents[2] / "params/smoke.yaml")
    params.curate = curate.Request(
        gate={"min_side": 64, "min_seconds": 1, "min_kbps": 1},
        tiers={"480p": {"min_side": 64, "ocr_max": 1, "motion_min": 0, "motion_max": 99}},
        min_clip_seconds=1,
    )
    tables = []
    for name, place in (("disk", str(made / "data/raw")), ("bucket", source(bucket))):
        params.collect = Request(source=place)
        (tmp_path / name).mkdir()
        (gather, judge) = select(cells(params), ["collect", "curate"])
        execute(gather, tmp_path / name)
        tables.append(pq.read_table(tmp_path / name / "data/raw.parquet").drop_columns(["uri", "source"]))
    assert tables[0] == tables[1]
    execute(judge, tmp_path / "bucket")
    rows = pq.read_table(tmp_path / "bucket/data/clips.parquet").to_pylist()
    clips = [row for row in rows if row["kind"] == "video" and row["outcome"] == "kept"]
    assert len(clips) == 2 and all(clip["caption"] and clip["uri"].startswith("data/raw/") for clip in clips)
