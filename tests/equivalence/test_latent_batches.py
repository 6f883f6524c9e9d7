"""However latents are made - alone, in batches by tokens, streamed while decoding, in tiles - they are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from shapes_workspace import make_vae, make_workspace, precompute

from goku_core.media.spans import Span, kept_spans, read_frames, resized, shown_size
from goku_core.models.folders import load_vae
from goku_core.precompute import latents as module
from goku_core.precompute.latents import Batches, LatentEncoder
from goku_core.precompute.sizes import size_within
from goku_core.shards import ShardReader

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("vae")
    make_vae(folder)
    return load_vae(folder)


def videos(count: int = 23) -> list[np.ndarray]:
    draws = np.random.default_rng(0)
    shapes = [(1, 32, 48, 3), (9, 32, 48, 3), (1, 48, 32, 3), (17, 16, 64, 3)]
    return [draws.integers(0, 256, shapes[draws.integers(4)], dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("waiting_bytes", [1 << 29, 60_000])
def test_batches_by_tokens_equal_one_by_one(vae, monkeypatch, waiting_bytes: int) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES", waiting_bytes)
    encoder, given = LatentEncoder(vae, CPU, batch_tokens=40), videos()
    batches, calls = Batches(encoder), []
    monkeypatch.setattr(encoder, "encode", lambda part: calls.append(part) or LatentEncoder.encode(encoder, part))
    for place, video in enumerate(given):
        batches.put(place, video)
    found = batches.finish()
    alone = [LatentEncoder(vae, CPU, 1).encode([video])[0] for video in given]
    assert sorted(found) == list(range(len(given)))
    for place, expected in enumerate(alone):
        assert np.allclose(found[place].astype(np.float32), expected, atol=1e-5, rtol=1e-3)  # float16's own step
    # No call above the budget, and pictures (6 tokens) do share calls.
    assert all(sum(encoder.tokens(*video.shape[:3]) for video in call) <= 40 for call in calls)
    assert sum(map(len, calls)) == len(given)
    if waiting_bytes > 1 << 20:
        assert max(map(len, calls)) == 6


@pytest.mark.parametrize("tile_side", [0, 64])
def test_a_stream_equals_the_whole_at_every_size(vae, tile_side: int) -> None:
    draws = np.random.default_rng(1)
    whole = draws.integers(0, 256, (41, 96, 160, 3), dtype=np.uint8)
    sizes = [(96, 160), (48, 80), (32, 32)]
    encoder = LatentEncoder(vae, CPU, batch_tokens=16, tile_side=tile_side)
    assert encoder.is_long(41, 96, 160)
    for size, found in zip(sizes, encoder.stream(iter(whole), sizes), strict=True):
        (expected,) = encoder.encode([module.resized(whole, *size)])
        assert found.shape == expected.shape == (4, 11, size[0] // 8, size[1] // 8)
        assert np.abs(found - expected).max() < 1e-5


def test_a_stream_holds_pieces_and_not_the_clip(vae) -> None:
    """Frames that were decoded but not yet encoded: bounded, however long the clip is."""
    alive, most = 0, 0

    def frames(count: int):
        nonlocal alive, most
        for number in range(count):
            alive += 1
            most = max(most, alive)
            yield np.full((32, 32, 3), number, np.uint8)

    encoder = LatentEncoder(vae, CPU, batch_tokens=16)
    step = vae.encode_step

    def encode_step(piece, past):
        nonlocal alive
        alive -= piece.shape[2] if piece.shape[3] == 32 else 0
        return step(piece, past)

    vae.encode_step = encode_step
    try:
        encoder.stream(frames(161), [(32, 32), (16, 16)])
    finally:
        del vae.encode_step
    assert alive == 0 and most <= 2 * max(vae.encode_pieces) + module.PIECE_FRAMES


def test_what_the_stage_streams_equals_a_direct_encoding_of_the_whole(tmp_path: Path) -> None:
    """Every sample has more tokens than a call may have, so that all of them are encoded while they are decoded."""
    workspace = make_workspace(tmp_path / "w", pictures=2, clips=2)
    precompute(workspace, tmp_path / "streamed", batch_tokens=16)
    whole = LatentEncoder(load_vae(workspace / "models/vae"), CPU, batch_tokens=1 << 20)
    spans = {span.clip_id: span for span in kept_spans(workspace / "data/clips.parquet", workspace)}
    for resolution in ("low", "high"):
        reader = ShardReader(tmp_path / "streamed/out/data/latents" / resolution)
        assert len(reader) == 4 and (resolution == "low" or reader.index["tokens"].min() > 16)
        for row in range(len(reader)):
            span, size = spans[reader.index["clip_id"][row]], (reader.index["height"][row], reader.index["width"][row])
            (expected,) = whole.encode([resized(read_frames(span, 9, 8.0, *largest(span)), *size)])
            assert np.allclose(reader.latent(row), expected, atol=1e-5, rtol=1e-3)  # float16's own step


def largest(span: Span) -> tuple[int, int]:
    """The size at which a medium is decoded, for all resolutions."""
    return size_within(64 * 112, *shown_size(span))
