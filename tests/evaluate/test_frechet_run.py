"""From a folder of pictures or clips to the numbers, through the networks (random weights) and the pool of workers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from goku_core import cli_frechet
from goku_core.evaluate.frechet import run
from goku_core.evaluate.frechet.extract import drawn, extract, network_fingerprint, passed, prepared, read
from goku_core.evaluate.frechet.flavours import FLAVOURS, Measurement, Setting, difference
from goku_core.evaluate.frechet.measure import Report
from goku_core.evaluate.frechet.members import members
from goku_core.evaluate.frechet.recorded import keep
from goku_core.evaluate.frechet.store import FeatureStore
from goku_core.evaluate.manifest import Prompt, plan, write
from goku_core.evaluate.networks import i3d, inception
from goku_core.evaluate.records import RecordStore
from goku_core.media.encode import write_video
from goku_core.pipeline.errors import GokuError


def random_file(kind, source, folder) -> None:
    """A file in the published layout whose features are not all alike."""
    torch.manual_seed(0)
    network = kind()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
            torch.nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), folder / source.place)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    random_file(inception.Inception, inception.SOURCE, folder)
    random_file(i3d.I3D, i3d.SOURCE, folder)
    return folder


def pictures(folder, count: int, seed: int):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 30)).save(folder / f"{number}.png")
    return folder


def clips(folder, lengths: list[int], seed: int):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number, length in enumerate(lengths):
        np.save(folder / f"{number}.npy", rng.integers(0, 256, (length, 12, 16, 3), dtype=np.uint8))
    return folder


def test_workers_and_a_second_run_give_the_same_bits(weights, tmp_path):
    flavour = FLAVOURS["adm"]
    found = members(pictures(tmp_path / "made", 5, seed=1), clips=False)
    name = network_fingerprint(flavour, weights)
    told: dict[int, int] = {}
    features = []
    for workers in (1, 2):
        store = FeatureStore(tmp_path / f"features-{workers}", name)
        shuffled = [found[i] for i in np.random.default_rng(workers).permutation(5)]
        features.append(extract(shuffled, flavour, weights, store, batch=2, workers=workers)[0])
        done: list[int] = []
        extract(found, flavour, weights, store, batch=2, on_progress=done.append)
        told[workers] = sum(done)
    assert told == {1: 0, 2: 0}  # the second time nothing is left to compute
    assert features[0].ids == features[1].ids == ("0", "1", "2", "3", "4")
    for vectors in ("pool", "spatial"):
        np.testing.assert_array_equal(features[0].vectors[vectors], features[1].vectors[vectors])
    network = inception.load(weights)
    pixels = torch.from_numpy(np.array(Image.open(found[3].path))).permute(2, 0, 1)[None]
    alone = {key: rows[0].numpy() for key, rows in network(pixels).items()}
    for vectors in ("pool", "spatial"):
        np.testing.assert_allclose(features[0].vectors[vectors][3], alone[vectors], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_command_measures_the_family_and_says_what_limits_it(weights, tmp_path):
    made = pictures(tmp_path / "made", 5, seed=1)
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(made.iterdir())])
    np.savez(tmp_path / "reference.npz", arr_0=pixels)
    app = typer.Typer()
    cli_frechet.register(app)
    said = CliRunner().invoke(
        app,
        [
            "fid",
            str(made),
            "--reference",
            str(tmp_path / "reference.npz"),
            "--weights",
            str(weights),
            "--batch",
            "5",
            "--json",
        ],
        catch_exceptions=False,
    )
    report = json.loads(said.stdout)
    found = {one["metric"]: one["value"] for one in report["measurements"]}
    # The reference is the set itself, as an array: distances vanish and everything is covered.
    assert found["fid"] == pytest.approx(0, abs=1e-6)
    assert found["sfid"] == pytest.approx(0, abs=1e-6)
    assert (found["precision"], found["recall"]) == (1.0, 1.0)
    assert 1 <= found["is"] <= 5
    assert any("rest on 50000" in note for note in report["notes"])
    first, second = (run(made, None, weights=weights, batch=5).measurements[0] for _ in range(2))
    assert difference(first, second) == 0
    assert first.value == found["is"]


@pytest.mark.slow
def test_a_broken_picture_is_named_and_nothing_is_measured(weights, tmp_path):
    made = pictures(tmp_path / "made", 2, seed=2)
    (made / "torn.png").write_bytes((made / "0.png").read_bytes()[:60])
    with pytest.raises(GokuError, match="torn"):
        run(made, None, weights=weights, batch=1)


def test_clips_are_taken_as_the_flavour_has_it(weights, tmp_path):
    flavour = FLAVOURS["stylegan-v"]
    place = clips(tmp_path / "clips", [20, 16, 15], seed=3)
    rows = [{"sample_id": m.sample_id, "path": str(m.path), "row": m.row} for m in members(place, clips=True)]
    whole = np.load(place / "0.npy")
    first = read(rows[0], flavour, drawn_start=False)
    torch.testing.assert_close(first, prepared(whole[:16], flavour))
    start = drawn("0", 4)
    torch.testing.assert_close(read(rows[0], flavour, drawn_start=True), prepared(whole[start : start + 16], flavour))
    assert read(rows[2], flavour, drawn_start=True) is None
    assert {drawn(str(n), 4) for n in range(60)} == {0, 1, 2, 3, 4}
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(whole[3]).permute(2, 0, 1)[None].float(), (224, 224), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(first[:, 3], expected[0] / 255 * 2 - 1, rtol=0, atol=1e-5)
    assert first.shape == (3, 16, 224, 224)
    assert prepared(whole[:16], FLAVOURS["svd"]).shape == (3, 16, 224, 224)


def test_a_clip_of_another_rate_is_shown_at_the_flavours(tmp_path):
    # Frame k of a clip of 50 fps is grey of value 4 k: at 25 fps every other one is seen, at 10 fps each two or three times.
    flavour = FLAVOURS["svd"]
    for fps, shown in (
        (50, [2 * k for k in range(16)]),
        (25, list(range(16))),
        (10, [int(k / 2.5 + 1e-9) for k in range(16)]),
    ):
        place = tmp_path / f"{fps}.mp4"
        write_video(place, [np.full((32, 48, 3), 4 * k, np.uint8) for k in range(40)], fps, crf=1)
        row = {"sample_id": "a", "path": str(place), "row": -1}
        pixels = read(row, flavour, drawn_start=False)
        seen = ((pixels.mean(dim=(0, 2, 3)) + 1) * 127.5 / 4).numpy()
        np.testing.assert_allclose(seen, shown, atol=0.6)


@pytest.mark.slow
def test_fvd_of_a_set_against_itself_and_another(weights, tmp_path):
    one, other = clips(tmp_path / "one", [16] * 4, seed=4), clips(tmp_path / "other", [16, 16, 16, 9], seed=5)
    same = run(one, one, "stylegan-v", kind="fvd", weights=weights, batch=1).measurements[0]
    apart = run(one, other, "stylegan-v", kind="fvd", weights=weights, batch=1)
    assert same.value == pytest.approx(0, abs=1e-6)
    assert apart.measurements[0].value > 0.01
    assert apart.measurements[0].setting.reference_samples == 3
    assert any("1 clips of the reference are too short" in note for note in apart.notes)
    with pytest.raises(GokuError, match="shorter than 16 frames"):
        run(other, one, "stylegan-v", kind="fvd", weights=weights, batch=1)
    with pytest.raises(GokuError, match="reference"):
        difference(same, apart.measurements[0])


def test_weights_that_are_not_there_are_named_with_the_way_to_get_them(tmp_path):
    made = pictures(tmp_path / "made", 1, seed=6)
    with pytest.raises(GokuError, match="torch-fidelity/releases"):
        run(made, None, weights=tmp_path)
    with pytest.raises(GokuError, match="no pictures"):
        members(clips(tmp_path / "clips", [2], seed=7), clips=False)


def planned(folder, benchmark: str, count: int):
    prompts = [Prompt(f"{benchmark}-{number:05d}", "", "set", ()) for number in range(count)]
    samples = plan(benchmark, "image", prompts, 1, seed=0)
    write(folder / "manifest.parquet", samples)
    return [sample.sample_id for sample in samples]


def measured(value: float, flavour: str = "adm") -> Report:
    setting = Setting(flavour, "inception-1", "corrected", "tf1", False, "none", 0, 0, 0.0, 2, "abc", 10)
    numbers = {"fid": value, "is": 7.0, "kid": 0.1}
    return Report(
        tuple(Measurement(name, number, setting) for name, number in numbers.items()), (), "digest of the set"
    )


def test_numbers_become_records_of_their_evaluation_once(tmp_path):
    planned(tmp_path, "imagenet", 2)
    assert len(keep(tmp_path, measured(3.5))) == 2  # KID is no number of the benchmark
    assert keep(tmp_path, measured(3.5)) == []
    rows = {row.dimension: row for row in RecordStore(tmp_path / "records").rows()}
    assert {name: (row.score, row.count, row.sample_id) for name, row in rows.items()} == {
        "fid": (3.5, 2, "imagenet-set-0"),
        "is": (7.0, 2, "imagenet-set-0"),
    }
    assert json.loads(rows["fid"].evidence)["setting"]["network"] == "inception-1"
    for other in (measured(3.6), measured(3.5, "torch-fidelity")):
        with pytest.raises(GokuError, match="One evaluation keeps one"):
            keep(tmp_path, other)
    (tmp_path / "plain").mkdir()
    assert keep(tmp_path / "plain", measured(3.5)) == []


def test_the_set_of_an_evaluation_is_what_was_planned_as_one(tmp_path):
    ids = planned(tmp_path, "imagenet", 2)
    made = pictures(tmp_path / "samples", 1, seed=9)
    (made / "0.png").rename(made / f"{ids[1]}.png")
    with pytest.raises(GokuError, match=f"1 of 2 planned samples are not there, the first is {ids[0]}"):
        members(tmp_path, clips=False)
    for name in (ids[0], "geneval-00000-0"):
        (made / f"{name}.png").write_bytes((made / f"{ids[1]}.png").read_bytes())
    assert [member.sample_id for member in members(tmp_path, clips=False)] == sorted(ids)
    planned(tmp_path, "geneval", 3)  # nothing in it is a set of its own: all that is there is measured
    assert len(members(tmp_path, clips=False)) == 3


def test_rows_of_a_batch_do_not_know_each_other(weights):
    flavour = FLAVOURS["adm"]
    generator = torch.Generator().manual_seed(8)
    small, other = (torch.randint(0, 256, (3, 20, 24), dtype=torch.uint8, generator=generator) for _ in range(2))
    wide = torch.randint(0, 256, (3, 20, 40), dtype=torch.uint8, generator=generator)
    together = passed([small, wide, other], flavour, weights, "cpu", batch=3)
    alone = passed([small], flavour, weights, "cpu", batch=3)
    for name in ("pool", "spatial"):
        np.testing.assert_array_equal(together[name][0], alone[name][0])
