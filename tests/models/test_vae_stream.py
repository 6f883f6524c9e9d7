"""A clip in pieces of time is the clip as a whole, and takes no more memory however long it is."""

from collections.abc import Iterator

import pytest
import torch
from allocations import peak_bytes

from goku_core.models import VideoVAE, VideoVAEConfig
from goku_core.models.vae_interface import regroup


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    torch.manual_seed(0)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, width=16, encoder_depth=2, decoder_depth=2)).eval()
    with torch.no_grad():
        for parameter in vae.parameters():  # every layer must take part: some start at zero
            parameter.normal_(std=0.08)
        vae.latent_mean.normal_()
        vae.latent_scale.uniform_(0.5, 2.0)
    return vae.requires_grad_(False)


@pytest.mark.parametrize("frames", [1, 5, 13, 17, 61])
@pytest.mark.parametrize("piece", [1, 7, 16, 100])
def test_a_stream_is_the_whole(vae: VideoVAE, frames: int, piece: int) -> None:
    clip = torch.rand(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    latent = vae.encode(clip)
    encoded = list(vae.encode_stream(iter(clip.split(piece, dim=2))))
    torch.testing.assert_close(torch.cat(encoded, dim=2), latent, atol=1e-5, rtol=0)
    decoded = list(vae.decode_stream(iter(latent.split(piece, dim=2))))
    torch.testing.assert_close(torch.cat(decoded, dim=2), vae.decode(latent), atol=1e-5, rtol=0)
    assert torch.equal(torch.cat(list(vae.encode_stream(clip)), dim=2), torch.cat(encoded, dim=2))


def test_results_come_while_the_clip_is_still_read(vae: VideoVAE) -> None:
    """The first latents need the first frames only: a decoder at the other end is never asked for more."""
    read = 0

    def frames() -> Iterator[torch.Tensor]:
        nonlocal read
        for _ in range(65):
            read += 1
            yield torch.zeros(1, 3, 1, 16, 16)

    stream = vae.encode_stream(frames())
    assert next(stream).shape[2] == 4 and read == 13
    assert next(stream).shape[2] == 4 and read == 29


def test_memory_does_not_grow_with_the_length(vae: VideoVAE) -> None:
    """Measured by torch's allocator: a longer clip costs a stream not one byte more; the whole grows with it."""

    def encode(frames: int) -> None:
        pieces = (torch.zeros(1, 3, 4 if n else 1, 64, 64) for n in range((frames - 1) // 4 + 1))
        for _ in vae.encode_stream(pieces):
            pass

    def decode(latents: int) -> None:
        for _ in vae.decode_stream(torch.zeros(1, 4, 1, 8, 8) for _ in range(latents)):
            pass

    def whole(frames: int) -> None:
        vae.decode(vae.encode(torch.zeros(1, 3, frames, 64, 64)))

    assert peak_bytes(lambda: encode(257)) == peak_bytes(lambda: encode(33))
    assert peak_bytes(lambda: decode(65)) == peak_bytes(lambda: decode(17))
    assert peak_bytes(lambda: whole(257)) > 6 * peak_bytes(lambda: whole(33))


def test_a_stream_that_does_not_fit_is_refused(vae: VideoVAE) -> None:
    with pytest.raises(ValueError, match="need 4k"):
        list(vae.encode_stream(torch.zeros(1, 3, 20, 16, 16)))
    with pytest.raises(ValueError, match="multiples of 8"):
        list(vae.encode_stream(torch.zeros(1, 3, 5, 16, 20)))


def test_frames_are_regrouped_without_loss() -> None:
    x = torch.arange(23.0).reshape(1, 1, 23, 1, 1)
    for sizes in ([23], [1] * 23, [2, 9, 12]):
        pieces = list(regroup(iter(x.split(sizes, dim=2)), 5, 4))
        assert [p.shape[2] for p in pieces] == [5, 4, 4, 4, 4, 2]
        assert torch.equal(torch.cat(pieces, dim=2), x)
