"""Captioners in this process, on small random checkpoints: real folders, real processors, real generation."""

from pathlib import Path

import numpy as np
import pytest
import tiny_captioners
from chat_server import row

from goku_core.curate.captions.in_process import Network
from goku_core.curate.captions.request import Captions
from goku_core.curate.captions.step import describe
from goku_core.pipeline.errors import GokuError


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("captioners")
    tiny_captioners.save_seer(folder / "seer")
    tiny_captioners.save_reader(folder / "reader")
    return folder


def noise(of: dict, most: int) -> list[np.ndarray]:
    draws = np.random.default_rng(int(of["media_id"], 16))
    return [draws.integers(0, 256, (40, 60, 3)).astype(np.uint8) for _ in range(most)]


def babble(workspace: Path, answers: str, temperature: float = 0.9) -> tuple[list[dict], int]:
    """Captions of two clips and a picture by three models of this process; any words will do."""
    seer = {"kind": "transformers", "model": "seer", "max_tokens": 24, "temperature": temperature, "frames": 3}
    reader = seer | {"model": "reader", "frames": 0}
    checks = {"language": "any", "min_words": 2, "max_repetition": 1.0}
    captions = Captions(keyframes=seer, clip=seer | {"frames": 2}, merge=reader, checks=checks, device="cpu")
    place = workspace / answers
    place.mkdir(exist_ok=True)
    for name in ("seer", "reader"):
        if not (place / name).exists():
            (place / name).symlink_to(workspace / name)
    rows = [row(1), row(2), row(3, "image")]
    recipe = describe(rows, captions, place, noise, lambda done: None)
    return rows, recipe.asked


def test_models_describe_what_they_are_shown_and_a_rerun_is_the_same(workspace: Path) -> None:
    rows, asked = babble(workspace, "first")
    assert asked >= 6
    written = [r for r in rows if r["caption"]]
    assert written, [r["caption_problem"] for r in rows]
    assert all(set(r["caption"].split()) <= set(tiny_captioners.WORDS) for r in written)
    assert all(r["caption_source"] in ("keyframes", "clip", "merge") for r in written)
    assert {r["caption"] or r["caption_problem"] for r in rows} != {written[0]["caption"]}
    assert babble(workspace, "first") == (rows, 0)
    assert babble(workspace, "second") == (rows, asked)


def test_other_weights_are_asked_again(workspace: Path) -> None:
    """The name of a folder is not its content."""
    import torch
    from safetensors.torch import load_file, save_file

    babble(workspace, "changed")
    path = workspace / "reader/model.safetensors"
    before = path.read_bytes()
    identity = Network(workspace / "reader", "cpu", sees=False).identity
    weights = load_file(path)
    save_file({name: tensor + torch.ones_like(tensor) for name, tensor in weights.items()}, path, {"format": "pt"})
    try:
        assert Network(workspace / "reader", "cpu", sees=False).identity != identity
    finally:
        path.write_bytes(before)


def test_what_is_no_model_is_said(tmp_path, workspace: Path) -> None:
    with pytest.raises(GokuError, match=r"no model folder .*docs/captions\.md"):
        Network(tmp_path, "cpu", sees=True)
    with pytest.raises(GokuError, match="reader"):
        Network(workspace / "reader", "cpu", sees=True)
