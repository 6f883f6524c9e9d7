"""`goku latents`: what is there, whether it is whole, what it decodes to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from shapes_workspace import make_vae
from typer.testing import CliRunner

from goku_core.cli import app
from goku_core.pipeline.errors import GokuError
from goku_core.precompute.comparison import compare
from goku_core.shards import ShardReader


@pytest.fixture
def workspace(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(shapes, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


def goku(*arguments: str):
    return CliRunner().invoke(app, ["latents", *arguments])


def test_ls_counts(workspace: Path) -> None:
    found = {one["resolution"]: one for one in json.loads(goku("ls", "--json").stdout)}
    reader = ShardReader(workspace / "data/latents/high")
    assert set(found) == {"low", "high"} and found["high"]["pictures"] == 3 and found["high"]["clips"] == 2
    assert found["high"]["tokens"] == reader.index["tokens"].sum()
    assert found["high"]["sizes"] == [[64, 112], [80, 80], [112, 64]]
    assert found["high"]["bytes"] == sum(
        p.stat().st_size for p in (workspace / "data/latents/high").glob("*.safetensors")
    )
    assert "3 pictures, 2 clips" in goku("ls").stdout


def test_whole_latents_pass_and_the_sample_is_the_same_every_time(workspace: Path) -> None:
    first, second = (goku("verify", "--samples", "3", "--json") for _ in range(2))
    assert first.exit_code == 0 and first.stdout == second.stdout
    told = json.loads(first.stdout)
    assert told["damaged"] == [] and len(told["samples"]) == 6
    assert {(one["resolution"], one["kind"]) for one in told["samples"]} == {
        (resolution, kind) for resolution in ("low", "high") for kind in ("image", "video")
    }


def test_psnr_is_that_of_decoded_against_source(workspace: Path) -> None:
    """The untrained VAE loses nearly everything; a latent of another sample would lose more."""
    found = compare(workspace, "high", 5, set())
    assert {one.kind for one in found} == {"image", "video"} and {len(one.source) for one in found} == {1, 9}
    for one in found:
        assert one.source.shape == one.decoded.shape
        error = np.mean((one.source.astype(float) - one.decoded.astype(float)) ** 2)
        assert one.psnr == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)


def test_the_sheet_shows_source_and_latent(workspace: Path, tmp_path: Path) -> None:
    assert goku("verify", "--samples", "2", "--out", str(tmp_path / "s.html")).exit_code == 0
    page = (tmp_path / "s.html").read_text()
    assert page.count("<figure>") == 4 and page.count("data:image/png;base64,") == 4 and "http" not in page
    assert goku("verify", "--samples", "1", "--resolution", "low", "--out", str(tmp_path / "s.png")).exit_code == 0
    from PIL import Image

    (one,) = compare(workspace, "low", 1, set())
    with Image.open(tmp_path / "s.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    times = 224 // one.source.shape[2]
    rows, columns = one.source.shape[1] * times, one.source.shape[2] * times
    assert np.array_equal(pixels[24 : 24 + rows, :columns][::times, ::times], one.source[0])
    assert np.array_equal(pixels[24 + rows : 24 + 2 * rows, :columns][::times, ::times], one.decoded[0])


def test_damage_is_exit_code_1_and_names_shard_and_sample(workspace: Path, tmp_path: Path) -> None:
    reader = ShardReader(workspace / "data/latents/low")
    shard, sample = str(reader.index["shard"][1]), str(reader.index["sample_id"][1])
    path = workspace / "data/latents/low" / shard
    content = bytearray(path.read_bytes())
    content[int(reader.index["latent_offset"][1]) + 3] ^= 1
    path.write_bytes(content)
    done = goku("verify", "--samples", "9", "--out", str(tmp_path / "s.html"))
    assert done.exit_code == 1 and f"low/{shard}, sample {sample}" in done.stderr
    told = json.loads(goku("verify", "--json").stdout)
    assert [(d["shard"], d["sample_id"]) for d in told["damaged"]] == [(shard, sample)]
    assert sample in (tmp_path / "s.html").read_text()
    assert goku("verify", "--resolution", "high").exit_code == 0
    path.unlink()
    assert goku("verify", "--samples", "0").exit_code == 1


def test_another_vae_or_place_is_said(workspace: Path) -> None:
    make_vae(workspace / "models/vae", seed=1)
    with pytest.raises(GokuError, match="is not the VAE whose latents"):
        compare(workspace, "low", 1, set())
    assert isinstance(goku("verify", "--resolution", "huge").exception, GokuError)
    assert isinstance(goku("verify", "--out", "sheet.pdf", "--samples", "0").exception, GokuError)
    shutil.rmtree(workspace / "data/latents")
    assert "goku run precompute" in str(goku("ls").exception)
