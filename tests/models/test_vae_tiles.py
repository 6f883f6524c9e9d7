"""Tiles in space: exact where the overlap hides what a cut edge changes, without seams where it does not."""

from itertools import pairwise

import pytest
import torch
from allocations import peak_bytes

from goku_core.models import VideoVAE, VideoVAEConfig
from goku_core.models.vae_tiles import Layout, Tiles, edges


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    torch.manual_seed(0)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, width=12, encoder_depth=2, decoder_depth=1)).double().eval()
    with torch.no_grad():
        for parameter in vae.parameters():  # every layer must take part: some start at zero
            parameter.normal_(std=0.1)
    return vae.requires_grad_(False)


def clip(rows: int, columns: int, frames: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(1, 3, frames, rows * 8, columns * 8, dtype=torch.float64, generator=generator) * 2 - 1


@pytest.mark.parametrize("grid", [(6, 20), (13, 11), (7, 7)])
@pytest.mark.parametrize("overlap", [4, 5, 6])
def test_exact_with_twice_the_reach(vae: VideoVAE, grid: tuple[int, int], overlap: int) -> None:
    assert vae.encoder_reach == 2 and vae.decoder_reach == 2
    video = clip(*grid)
    tiles = Tiles(7, 8, overlap)
    latent = vae.encode(video)
    assert torch.allclose(vae.encode_tiled(video, tiles), latent, atol=1e-10)
    assert torch.allclose(vae.decode_tiled(latent, tiles), vae.decode(latent), atol=1e-10)


def test_the_reach_is_not_overstated(vae: VideoVAE) -> None:
    """One cell less than twice the reach is not exact: the bound is the network's own."""
    latent = vae.encode(clip(8, 20))
    off = (vae.decode_tiled(latent, Tiles(8, 8, 3)) - vae.decode(latent)).abs().max()
    assert off > 1e-4


def test_small_overlaps_leave_no_seam(vae: VideoVAE) -> None:
    """The error may grow in an overlap, but does not jump at a tile's border as it does without overlap."""
    latent = vae.encode(clip(8, 29, frames=1))
    whole = vae.decode(latent)

    def jump(overlap: int) -> torch.Tensor:
        """Largest step of the error from one pixel column to the next, at every column."""
        error = vae.decode_tiled(latent, Tiles(8, 8, overlap)) - whole
        return error.diff(dim=-1).abs().amax(dim=(0, 1, 2, 3))

    cut, blended = jump(0), jump(2)
    borders = [edge.begin * 8 for edge in edges(29, 8, 2)[1:]] + [edge.end * 8 for edge in edges(29, 8, 2)[:-1]]
    at_borders = blended[[b - 1 for b in borders]].max()
    assert at_borders < 0.1 * cut[[edge.begin * 8 - 1 for edge in edges(29, 8, 0)[1:]]].max()
    assert at_borders <= blended.max()


def test_tiles_and_stream_go_together(vae: VideoVAE) -> None:
    video = clip(6, 17, frames=37)
    tiles = Tiles(6, 8, 4)
    latent = vae.encode(video)
    encoded = list(vae.encode_stream(iter(video.split(5, dim=2)), tiles=tiles))
    assert len(encoded) == 3
    assert torch.allclose(torch.cat(encoded, dim=2), latent, atol=1e-10)
    decoded = list(vae.decode_stream(latent, tiles=tiles))
    assert torch.allclose(torch.cat(decoded, dim=2), vae.decode(latent), atol=1e-10)


def test_tiles_need_less_memory_than_the_whole() -> None:
    torch.manual_seed(0)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, width=32, encoder_depth=1, decoder_depth=1)).eval()
    vae.requires_grad_(False)
    latent = torch.zeros(1, 4, 1, 96, 96)
    assert peak_bytes(lambda: vae.decode_tiled(latent, Tiles(16, 16, 4))) < 0.5 * peak_bytes(lambda: vae.decode(latent))


@pytest.mark.parametrize(("size", "tile", "overlap"), [(29, 8, 2), (8, 8, 3), (9, 8, 7), (100, 10, 9), (5, 8, 0)])
def test_tiles_cover_the_axis(size: int, tile: int, overlap: int) -> None:
    found = edges(size, tile, overlap)
    assert found[0].begin == 0 and found[-1].end == size
    assert all(edge.end - edge.begin == min(tile, size) for edge in found)
    for edge, following in pairwise(found):
        assert edge.begin < following.begin
        assert edge.after == following.before == edge.end - following.begin >= overlap


@pytest.mark.parametrize(("reach", "overlap"), [(None, 3), (1, 2), (2, 2), (1, 7), (4, 7)])
def test_blending_what_agrees_changes_nothing(reach: int | None, overlap: int) -> None:
    """Tiles cut from one picture give the picture back: the weights sum to something everywhere."""
    picture = torch.rand(2, 3, 1, 13 * 4, 21 * 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layout = Layout(13, 21, Tiles(8, 8, overlap), reach)
    blended = layout.blend((place.cut(picture, 4) for place in layout.places), 4)
    assert torch.allclose(blended, picture, atol=1e-12)


@pytest.mark.parametrize(("rows", "overlap"), [(8, 8), (4, 5), (4, -1)])
def test_impossible_tiles_are_refused(rows: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=f"overlap {overlap} must be at least 0"):
        Tiles(rows, 8, overlap)
