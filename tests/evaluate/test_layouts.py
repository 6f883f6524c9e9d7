"""Official folders and file names: out and in again gives the same bytes, and nothing is guessed."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goku_core.evaluate import planning, sampling
from goku_core.evaluate.layouts import grid, intake, names
from goku_core.evaluate.layouts.export import export
from goku_core.evaluate.layouts.intake import prompts_there, take_in
from goku_core.evaluate.manifest import Drawing, Prompt, plan
from goku_core.evaluate.suites import vbench, vbench2
from goku_core.evaluate.suites.suite import format_named, open_suite, spread
from goku_core.media.encode import write_image
from goku_core.pipeline.errors import GokuError

OFFICIAL = Path(__file__).parents[2] / "../shared/benchmarks"
MEDIA = {"geneval": "image", "vbench": "video", "vbench2": "video", "dpg": "image", "compbench": "image"}


def fill(folder, samples):
    """A file of its own for every sample; clips are not decoded on their way, so any bytes will do for them."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    for sample in samples:
        place = sampling.place(folder, sample)
        if sample.benchmark == "dpg":
            pixels = np.random.default_rng(sample.seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)
            write_image(place, pixels)
        else:
            place.write_bytes(sample.sample_id.encode())


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (folder / "samples").iterdir()}


def listing(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def of_grammar(name, folder, prompts=6, per_prompt=4):
    suite = open_suite(name, "grammar", folder)
    return plan(name, format_named(name).MEDIA, spread(suite.prompts, prompts), per_prompt, 0)


def test_names_are_the_official_ones(tmp_path):
    wanted = {
        "geneval": {f"{n:05d}/samples/{k:04d}.png" for n in (0, 56) for k in range(4)},
        "dpg": {"corpus0.png", "corpus12.png"},
    }
    for name, files in wanted.items():
        samples = of_grammar(name, tmp_path / name, prompts=2)
        assert {"/".join(parts) for parts in names.official(samples).values()} == files
    truth = {"auxiliary_info": {}, "entries": [7]}
    clip = plan("vbench", "video", [Prompt("vbench-00007", "A dog, running", "", ("scene",), truth)], 2, 0)
    assert set(names.official(clip).values()) == {("A dog, running-0.mp4",), ("A dog, running-1.mp4",)}
    long = plan("vbench2", "video", [Prompt("vbench2-00003", "x" * 300, "", ("Diversity",), {})], 1, 0)
    assert set(names.official(long).values()) == {("Diversity", "x" * 180 + "-0.mp4")}
    rows = [Prompt(f"compbench-{300 + k:05d}", f"toy {k}", "shape", ("shape",), {"row": k}) for k in (0, 7)]
    assert set(names.official(plan("compbench", "image", rows, 2, 0)).values()) == {
        ("shape", "samples", f"toy {k}_{number:06d}.png") for k, number in ((0, 0), (0, 1), (7, 14), (7, 15))
    }


@pytest.mark.parametrize("name", ["geneval", "vbench", "dpg", "compbench"])
def test_out_and_in_again_is_the_same(name, tmp_path):
    samples = of_grammar(name, tmp_path / "suite")
    fill(tmp_path / "a", samples)
    done = export(tmp_path / "a", tmp_path / "official", samples)
    assert done.files == (6 if name == "dpg" else 24) and not done.by_id
    assert export(tmp_path / "a", tmp_path / "official", samples).kept == done.files  # repeated: nothing is written
    taken = take_in(tmp_path / "official", tmp_path / "b", samples)
    assert (taken.taken, taken.kept, taken.surplus) == (24, 0, ())
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert take_in(tmp_path / "official", tmp_path / "b", samples).kept == 24
    rows = pq.read_table(tmp_path / "b/imported.parquet").to_pylist()
    assert [row["sample_id"] for row in rows] == [s.sample_id for s in samples]
    for row in rows:
        source = hashlib.sha256((tmp_path / "official" / row["source"]).read_bytes()).hexdigest()
        assert row["source_sha256"] == source
        assert (
            row["sha256"] == digests(tmp_path / "b")[sampling.place(tmp_path, _by_id(samples)[row["sample_id"]]).name]
        )


def _by_id(samples):
    return {sample.sample_id: sample for sample in samples}


LETTERS = st.one_of(
    st.sampled_from(["a/b", "../../etc", ".", "..", "a\n", "x" * 400, "ü" * 130, "a", "A", "é", "e\u0301", "a-0", " ", "-", "#?*"]),
    st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8),
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(LETTERS, min_size=1, max_size=5), name=st.sampled_from(["vbench", "vbench2", "compbench", "geneval"])
)
def test_out_and_in_again_for_nasty_prompts(texts, name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nasty")
    prompts = [
        Prompt(f"{name}-{k:05d}", text, "color", ("color",), {"row": k, "entries": [k]}) for k, text in enumerate(texts)
    ]
    samples = plan(name, MEDIA[name], prompts, 2, 0)
    fill(folder / "a", samples)
    done = export(folder / "a", folder / "out", samples, safe=True)
    assert done.files == len(samples)
    # Nothing lies outside, and a sample has its second name exactly where its first cannot be a file's own.
    ours = {"/".join(parts) for parts in names.official(samples).values()}
    assert len([f for f in listing(folder / "out") if f.startswith("by-id/")]) == len(done.by_id)
    plain = {f for f in listing(folder / "out") if not f.startswith("by-id/") and not f.endswith("metadata.jsonl")}
    assert plain <= ours and len(plain) + len(done.by_id) == len(samples)
    if done.by_id:
        with pytest.raises(GokuError, match="cannot have their official name"):
            export(folder / "a", folder / "strict", samples)
    taken = take_in(folder / "out", folder / "b", samples)
    assert taken.taken == len(samples) and taken.surplus == ()
    assert digests(folder / "a") == digests(folder / "b")


def test_names_that_fold_into_one_are_found_before_anything_is_written(tmp_path, monkeypatch):
    """As on a file system without case: the pair of VBench that differs by its first letter."""
    prompts = [
        Prompt(f"vbench-{k:05d}", text, "", ("scene",), {"entries": [k]})
        for k, text in enumerate(("A fantasy landscape", "a fantasy landscape", "alley"))
    ]
    samples = plan("vbench", "video", prompts, 1, 0)
    fill(tmp_path / "a", samples)
    assert export(tmp_path / "a", tmp_path / "linux", samples).by_id == ()
    monkeypatch.setattr("goku_core.evaluate.layouts.export.ignores_case", lambda folder: True)
    with pytest.raises(GokuError, match=r"2 of 3 samples .* but for its case"):
        export(tmp_path / "a", tmp_path / "mac", samples)
    assert listing(tmp_path / "mac") == set()
    done = export(tmp_path / "a", tmp_path / "mac", samples, safe=True)
    assert done.by_id == ("vbench-00000-0", "vbench-00001-0")
    assert take_in(tmp_path / "mac", tmp_path / "b", samples).taken == 3
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="needs the prompt files in ../shared/benchmarks")
def test_every_official_name_can_be_a_file_or_is_named():
    samples = plan("vbench", "video", vbench.load(OFFICIAL / "vbench"), 5, 0)
    wanted = names.official(samples)
    assert len(set(wanted.values())) == 4720 and names.trouble(wanted, fold=False) == {}
    folded = {samples_id.rsplit("-", 1)[0] for samples_id in names.trouble(wanted, fold=True)}
    texts = {s.prompt.prompt_id: s.prompt.text for s in samples}
    assert {texts[one] for one in folded} == {"A fantasy landscape", "a fantasy landscape"}
    second = vbench2.load(OFFICIAL / "vbench2")
    cut = names.official(plan("vbench2", "video", second, 1, 0))
    assert names.trouble(cut, fold=False) == {}  # 180 letters tell all prompts of a dimension apart


def test_missing_and_surplus_files_are_named_and_nothing_comes_in(tmp_path):
    samples = of_grammar("geneval", tmp_path / "suite")
    fill(tmp_path / "a", samples)
    export(tmp_path / "a", tmp_path / "official", samples)
    (tmp_path / "official/00000/samples/0001.png").rename(tmp_path / "official/00000/samples/1.png")
    with pytest.raises(
        GokuError, match=r"1 of 24 samples are missing, for example 00000/samples/0001\.png\. .*00000/samples/1\.png"
    ):
        take_in(tmp_path / "official", tmp_path / "b", samples)
    assert not (tmp_path / "b").exists()
    (tmp_path / "official/00000/samples/1.png").rename(tmp_path / "official/00000/samples/0001.png")
    (tmp_path / "official/00000/samples/0004.png").write_bytes(b"more")
    (tmp_path / "official/00000/grid.png").write_bytes(b"GenEval's script makes one")
    assert take_in(tmp_path / "official", tmp_path / "b", samples).surplus == ("00000/samples/0004.png",)
    (tmp_path / "official/00000/samples/0000.png").write_bytes(b"another picture")
    with pytest.raises(GokuError, match="is there with other bytes"):
        take_in(tmp_path / "official", tmp_path / "b", samples)
    with pytest.raises(GokuError, match="is there with other bytes"):
        export(tmp_path / "a", tmp_path / "official", samples)
    (tmp_path / "a/samples/geneval-00000-0.png").unlink()
    with pytest.raises(GokuError, match="1 of 24 samples are not drawn, for example geneval-00000-0"):
        export(tmp_path / "a", tmp_path / "again", samples)


def test_a_missing_picture_of_a_running_number_is_named(tmp_path):
    samples = of_grammar("compbench", tmp_path / "suite")
    fill(tmp_path / "a", samples)
    export(tmp_path / "a", tmp_path / "official", samples)
    lost = "/".join(names.official(samples)[samples[-1].sample_id])
    (tmp_path / "official" / lost).unlink()
    with pytest.raises(GokuError, match=re.escape(f"1 of 24 samples are missing, for example {lost}")):
        take_in(tmp_path / "official", tmp_path / "b", samples)


def test_tiles_lie_in_reading_order():
    tiles = [np.full((2, 3, 3), k, np.uint8) for k in range(4)]
    picture = grid.compose(tiles, "x")
    assert picture.shape == (4, 6, 3) and picture[::2, ::3, 0].tolist() == [[0, 1], [2, 3]]
    assert all(np.array_equal(a, b) for a, b in zip(grid.split(picture, 4, "x"), tiles, strict=True))
    for wrong, many in ((picture[:3], 4), (picture, 3)):
        with pytest.raises(GokuError, match="x: "):
            grid.split(wrong, many, "x")


def test_a_layout_of_geneval_carries_its_prompts(tmp_path):
    samples = of_grammar("geneval", tmp_path / "suite")
    fill(tmp_path / "a", samples)
    export(tmp_path / "a", tmp_path / "official", samples)
    assert prompts_there("geneval", tmp_path / "official") == list(
        {s.prompt.prompt_id: s.prompt for s in samples}.values()
    )
    number = samples[0].prompt.prompt_id[-5:]
    (tmp_path / f"official/{number}/metadata.jsonl").write_text(json.dumps({"tag": "colors"}))
    with pytest.raises(GokuError, match=rf"{number}/metadata\.jsonl, line 1: not GenEval metadata"):
        prompts_there("geneval", tmp_path / "official")


def test_a_plain_folder_is_a_set_in_the_order_of_names(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "set/cats").mkdir(parents=True)
    for name in ("cats/b.png", "a.png", "cats/a.jpg"):
        write_image(tmp_path / "set" / name, rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    (tmp_path / "set/notes.txt").write_text("no picture")
    prompts = prompts_there("imagenet", tmp_path / "set")
    assert [p.metadata["file"] for p in prompts] == ["a.png", "cats/a.jpg", "cats/b.png"]
    samples = planning.planned("imagenet", "image", prompts, 1, 0, Drawing())
    assert take_in(tmp_path / "set", tmp_path / "e", samples).taken == 3
    rows = pq.read_table(tmp_path / "e/imported.parquet").to_pylist()
    same = [row["source_sha256"] == row["sha256"] for row in rows]
    assert same == [True, False, True]  # of the JPEG the pixels are kept, as PNG
    from goku_core.media.decode import read_image

    assert np.array_equal(
        read_image(tmp_path / "e/samples/imagenet-00001-0.png"), read_image(tmp_path / "set/cats/a.jpg")
    )
    export(tmp_path / "e", tmp_path / "back", samples)
    assert listing(tmp_path / "back") == {"a.png", "cats/a.png", "cats/b.png"}
    with pytest.raises(GokuError, match=re.escape("no .mp4 files")):
        prompts_there("ucf101", tmp_path / "set")


def test_links_cost_no_second_copy(tmp_path):
    samples = of_grammar("vbench", tmp_path / "suite", prompts=1, per_prompt=2)
    fill(tmp_path / "a", samples)
    export(tmp_path / "a", tmp_path / "out", samples, link=True)
    intake.take_in(tmp_path / "out", tmp_path / "b", samples, link=True)
    for sample in samples:
        assert sampling.place(tmp_path / "a", sample).samefile(sampling.place(tmp_path / "b", sample))
