"""Training times of a pack: the law's, shifted for each sample by its length where the parameters say so."""

from pathlib import Path

import pytest
import torch
from latent_workspace import TEXT, make_workspace, request

from goku_core.config import check
from goku_core.models.folders import text_encoder
from goku_core.pipeline.errors import GokuError
from goku_core.shards import ShardReader
from goku_core.train.data import Pack, Packer
from goku_core.train.request import Sampling, Transport
from goku_core.transport import RectifiedFlow, shift_time, timestep_of_uniform


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("times"))


def packs(workspace: Path, **transport: object) -> list[Pack]:
    asked = request("second").model_copy(update={"transport": Transport(**transport)})
    reader = ShardReader(workspace / "data/latents/low")
    (phase,) = asked.phases.values()
    encoder = text_encoder(TEXT, reader.metadata["text"])
    packer = Packer(reader, phase, asked, encoder, 5)
    return [packer.packs(step)[0] for step in range(4)]


def test_shift_by_tokens_moves_longer_samples_towards_noise(workspace: Path) -> None:
    plain = packs(workspace)
    shifted = packs(workspace, shift_law="tokens", base_tokens=4, shift=1.5)
    lengths = torch.cat([pack.cu_seqlens.diff() for pack in plain])
    assert set(lengths.tolist()) == {4, 8}  # pictures and clips
    for length, shift in ((4, 1.5), (8, 1.5 * 2**0.5)):
        before, after = (
            torch.cat([pack.time[pack.cu_seqlens.diff() == length] for pack in made]) for made in (plain, shifted)
        )
        assert torch.allclose(after, shift_time(before, shift))
    # The time told to the network is the one the noise was mixed in with.
    for pack in shifted:
        per_token = pack.time.repeat_interleave(pack.cu_seqlens.diff())[:, None]
        assert torch.allclose(pack.noised, RectifiedFlow().interpolate(pack.noise, pack.data, per_token))


def test_the_law_is_a_map_of_the_same_draws(workspace: Path) -> None:
    uniform, mode = packs(workspace, law="uniform"), packs(workspace, law="mode", scale=1.29)
    for one, other in zip(uniform, mode, strict=True):
        assert torch.equal(other.time, timestep_of_uniform(one.time, "mode", scale=1.29))


def test_bad_settings_are_said_with_their_key() -> None:
    for section, values, said in (
        (Transport, {"law": "mode", "scale": 1.9}, "law mode takes -1 to 1.75"),
        (Transport, {"scale": 0}, "deviation of logit-normal must be above 0"),
        (Sampling, {"guidance_interval": [0.8, 0.2]}, r"guidance_interval \[0.8, 0.2\]: needs 0 <= low < high <= 1"),
        (Sampling, {"solver": "rk45"}, "solver: it should be 'euler', 'midpoint', 'heun' or 'adaptive'"),
    ):
        with pytest.raises(GokuError, match=said):
            check(values, section, "params.yaml")
