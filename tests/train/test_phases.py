"""Phases: they learn, continue one another, say what is missing, and write what the next stage reads."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from latent_workspace import make_workspace, request, train
from safetensors.torch import load_file, save_file

from goku_core.generate import Generator
from goku_core.models.text import WordEncoder
from goku_core.pipeline.errors import GokuError
from goku_core.shards import ShardReader, write_index
from goku_core.train.data import Packer
from goku_core.train.optimizers import learning_rate


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("line"))


def publish(workspace: Path, place: Path, phase: str) -> Path:
    target = workspace / "models" / phase
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(place / "out" / "models" / phase, target)
    return target


def test_the_curriculum_runs_and_each_phase_continues_the_one_before(workspace: Path, tmp_path: Path) -> None:
    report = train(workspace, "first", tmp_path / "first", steps=60)
    assert report.loss < report.loss_first and report.clips == 0
    first = publish(workspace, tmp_path / "first", "first")
    second_report = train(workspace, "second", tmp_path / "second", learning_rate=1e-12)
    second = publish(workspace, tmp_path / "second", "second")
    assert second_report.images > 0 and second_report.clips > 0
    # With a rate of nothing the second phase is the first one: raw weights from raw, averaged from averaged.
    for file, other in (("training.safetensors", "training.safetensors"), ("model.safetensors", "model.safetensors")):
        before, after = load_file(first / file), load_file(second / other)
        worst = max((before[k] - after[k]).abs().max().item() for k in before)
        assert worst < (1e-6 if file.startswith("training") else 0.1)
    i2v_report = train(workspace, "i2v", tmp_path / "i2v")
    i2v = publish(workspace, tmp_path / "i2v", "i2v")
    assert i2v_report.images == 0
    assert json.loads((i2v / "config.json").read_text())["model"]["image_condition"] is True
    listed = json.loads((second / "samples/samples.json").read_text())
    assert {entry["kind"] for entry in listed} == {"image", "clip"}
    assert all((second / "samples" / entry["file"]).stat().st_size > 0 for entry in listed)


def test_generation_depends_on_the_seed_and_not_on_the_batch(workspace: Path, tmp_path: Path) -> None:
    train(workspace, "first", tmp_path / "first")
    publish(workspace, tmp_path / "first", "first")
    generator = Generator.from_model(workspace / "models/first", workspace / "models/vae")
    prompts, seeds = ["a red circle", "two blue stars", "a star"], [1, 2, 3]
    together = generator.images(prompts, seeds)
    alone = np.concatenate([generator.images([p], [s]) for p, s in zip(prompts, seeds, strict=True)])
    assert np.abs(together.astype(int) - alone.astype(int)).max() <= 1
    assert together.shape == (3, 32, 32, 3)
    assert not np.array_equal(together[0], generator.images(prompts[:1], [9])[0])
    assert generator.clips(prompts[:1], [1]).shape == (1, 5, 32, 32, 3)
    with pytest.raises(GokuError, match="multiples of 16"):
        generator.images(prompts[:1], [1], height=40)
    with pytest.raises(GokuError, match="need 4k"):
        generator.clips(prompts[:1], [1], frames=6)
    with pytest.raises(GokuError, match="takes no first_frames"):
        generator.clips(prompts[:1], [1], first_frames=together[:1])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "line")
    with pytest.raises(GokuError, match="cannot continue second"):
        train(workspace, "i2v", tmp_path / "a", init_from="second")
    with pytest.raises(ValueError, match="no earlier phase; allowed: first, vae"):
        request("second", init_from="i2v")
    with pytest.raises(GokuError, match="goku run precompute"):
        train(workspace, "first", tmp_path / "b", resolution="huge")


def test_other_encoders_than_those_of_the_training_are_refused(tmp_path: Path) -> None:
    """A model is deaf to another text encoder and blind to another VAE, and its pictures alone would not say why."""
    workspace = make_workspace(tmp_path / "line")
    train(workspace, "first", tmp_path / "first", steps=1)
    folder = publish(workspace, tmp_path / "first", "first")
    config = json.loads((folder / "config.json").read_text())
    config["encoders"]["text"] = "words-v0-16-16"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(GokuError, match="encoded by words-v0-16-16, this installation has words-v"):
        Generator.from_model(folder, workspace / "models/vae")
    publish(workspace, tmp_path / "first", "first")
    vae = workspace / "models/vae/model.safetensors"
    save_file({key: value + 1 for key, value in load_file(vae).items()}, vae)
    with pytest.raises(GokuError, match="is not the VAE whose latents"):
        Generator.from_model(folder, workspace / "models/vae")

    with pytest.raises(GokuError, match="is not the VAE whose latents"):
        train(workspace, "first", tmp_path / "blind", steps=1)


def test_latents_of_two_encoders_never_meet(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "line")
    train(workspace, "first", tmp_path / "first", steps=1)
    publish(workspace, tmp_path / "first", "first")
    listed, index = workspace / "data/latents/encoders.json", workspace / "data/latents/low/index.parquet"
    made_by = json.loads(listed.read_text()) | {"text": "words-v0-16-16"}
    write_index(index, pq.read_table(index).to_pylist(), made_by)
    with pytest.raises(GokuError, match=r"index\.parquet was made with another text encoder than .*encoders\.json"):
        train(workspace, "first", tmp_path / "mixed", steps=1)
    listed.write_text(json.dumps(made_by))
    with pytest.raises(GokuError, match="encoded by words-v0-16-16"):
        train(workspace, "first", tmp_path / "again", steps=1)

    # A whole data set of other encoders, and a phase that would continue a model of the first ones.
    encoder = WordEncoder(16, 12)
    spec = {"kind": "words", "width": 16, "max_tokens": 12}
    made_by |= {"text": encoder.fingerprint, "text_request": json.dumps(spec)}
    write_index(index, pq.read_table(index).to_pylist(), made_by)
    listed.write_text(json.dumps(made_by))
    with pytest.raises(GokuError, match=r"another text encoder than the latents that .*first was trained on"):
        train(workspace, "second", tmp_path / "second", steps=1)


def test_a_share_of_the_clips_gets_no_first_frame(workspace: Path) -> None:
    def conditions(share: float) -> tuple[torch.Tensor, torch.Tensor]:
        asked = request("i2v", tokens=48).model_copy(update={"image_dropout": share})
        reader = ShardReader(workspace / "data/latents/low")
        packer = Packer(reader, asked.phases["i2v"], asked, WordEncoder(16, 16), seed=5)
        packs = [packer.packs(step)[0] for step in range(60)]
        # 8 tokens a clip: is its condition all zero?
        dropped = torch.cat([p.condition.unflatten(0, (-1, 8)).abs().sum((1, 2)) == 0 for p in packs])
        return dropped, torch.cat([p.noised for p in packs])

    never, same = conditions(0.0)
    some, noised = conditions(0.3)
    assert not never.any() and 0.2 < some.float().mean() < 0.4
    assert conditions(1.0)[0].all()
    assert torch.equal(same, noised)  # nothing else of the pack changes


def test_a_loss_that_is_not_finite_stops_the_run(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(GokuError, match=r"(loss|gradient norm) is"):
        train(workspace, "first", tmp_path / "c", learning_rate=1e12, warmup=0)


def test_learning_rate_warms_up_and_cools_down() -> None:
    (phase,) = request("first", steps=100, warmup=10, decay=0.5, learning_rate=1.0).phases.values()
    rates = [learning_rate(phase, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:50] == pytest.approx([1.0] * 41)
    assert rates[75] == pytest.approx(0.5) and 0 < rates[99] < 0.03


def test_seeds_and_threads_do_not_leak_between_phases(workspace: Path, tmp_path: Path) -> None:
    """Two runs of one request give the same bytes."""
    torch.manual_seed(123)
    train(workspace, "first", tmp_path / "one")
    torch.manual_seed(321)
    train(workspace, "first", tmp_path / "two")
    for file in ("model.safetensors", "metrics.jsonl", "samples/image-00.png"):
        first, second = ((tmp_path / run / "out/models/first" / file).read_bytes() for run in ("one", "two"))
        assert first == second, file
