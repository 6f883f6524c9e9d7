"""Near-duplicates: recall and precision on planted copies, and what the search costs from ten thousand to a million clips.

Measures the claims that planted copies (re-encoded, scaled, cropped 5 %, shifted 0.5 s) are found with a recall of at least
0.95 at a precision of at least 0.99; that the search among n clips costs far less than comparing all pairs and finds the same;
that the signature costs less than 1 ms a frame. Clips are made in this run (`measuring/footage.py`): places with texture, a
resting or drifting camera, things that move. Of each place there is another take too, with other things before the same
ground: it is no copy, and whoever calls it one loses precision.

Two other rules judge the same clips: the perceptual hash of the middle frame as the ImageHash library computes it, at the
threshold that suits it best (largest recall of planted copies with a precision of 0.99 or, where none has it, with the best F1);
and this project's former rule (hash with a floor, and 8x8 colours of three frames). Letterboxed, brighter and 10 % cropped
copies, such with a logo, with fewer frames, and with everything at once, are reported beside the planted ones; they count for
precision, not for recall. Plain shapes before plain grounds are a case of their own, as pictures and as clips: the other take is
the same scene with other shapes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

from benchmarks.measuring import footage, shapes
from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result
from benchmarks.measuring.timing import Timing, compare, once
from goku_core.curate.duplicates.join import cheapest, near_pairs
from goku_core.curate.duplicates.likeness import Looks
from goku_core.curate.duplicates.near import matches
from goku_core.curate.duplicates.request import Dedup
from goku_core.curate.scores.resemblance import WINDOWS, look
from goku_core.media.decode import resize

CLAIM = "Near-duplicates: recall at precision on planted copies; the search against comparing all pairs; ms of a frame"
SECONDS, TAKES = 5.0, 2
EVERY = footage.FPS // 2  # samples are 0.5 s apart
PART = 100  # clips that are compared with all others where all pairs would take hours
Pairs = set[tuple[int, int]]


@dataclass(frozen=True)
class Clip:
    """place: ground and take, the same for all copies of one clip."""

    place: tuple[int, int]
    kind: str
    samples: list[np.ndarray]


def main(arguments: list[str] | None = None) -> Result:
    options = parser("dedup", __doc__)
    options.add_argument("--places", type=int, help="clips of which copies are made [80; 12 with --quick]")
    options.add_argument("--clips", type=int, nargs="+", help="sizes of the search [10000 100000 1000000]")
    options = settle(options.parse_args(arguments))
    cv2.setNumThreads(1)
    result = Result("dedup", CLAIM, options)
    few = options.small or options.quick
    places = options.places or (3 if options.small else 12 if options.quick else 80)
    clips = list(_clips(places, result))
    looks = Looks([{"clip_id": str(i)} | look(clip.samples) for i, clip in enumerate(clips)])
    _accuracy(result, clips, looks, f"{len(clips)} clips", "video", footage.KINDS, footage.PLANTED)
    del clips  # gigabytes of frames
    for name, kind, drawn in (("pictures", "image", shapes.pictures), ("clips", "video", shapes.clips)):
        result.say(f"{name} of plain shapes")
        plain = [Clip(place, what, frames[::EVERY]) for place, what, frames in drawn(3 * places)]
        own = Looks([{"clip_id": str(i)} | look(clip.samples) for i, clip in enumerate(plain)])
        _accuracy(result, plain, own, f"plain shapes, {len(plain)} {name}", kind, shapes.KINDS, shapes.KINDS)
    sizes = options.clips or ([300] if options.small else [10_000] if few else [10_000, 100_000, 1_000_000])
    for size in sizes:
        _search(result, looks.hashes, size, 1 if few else options.repeats or 1)
    _cost(result, options)
    result.finish()
    return result


def _clips(places: int, result: Result) -> Iterable[Clip]:
    for ground in range(places):
        result.say(f"clips and copies of place {ground + 1} of {places}")
        for take in range(TAKES):
            scene = footage.Scene(ground, take)
            yield Clip((ground, take), "original", scene.frames(SECONDS)[::EVERY])
            if take == 0:
                for kind, frames in footage.copies(scene, SECONDS, seed=0).items():
                    yield Clip((ground, take), kind, frames[::EVERY])


def _accuracy(
    result: Result,
    clips: list[Clip],
    looks: Looks,
    case: str,
    kind: str,
    kinds: Sequence[str],
    planted: Sequence[str],
) -> None:
    """kinds of copies, of which the ``planted`` ones count for recall."""
    everybody = np.arange(len(clips))
    worse, better, _ = matches(looks, everybody, None, Dedup().of(kind))
    found = {
        "goku": {(int(b), int(a)) for a, b in zip(worse, better, strict=True)},
        "ImageHash, middle frame": _image_hash(clips, planted),
        "former rule": _former(clips),
    }
    for side, pairs in found.items():
        right = sum(clips[a].place == clips[b].place for a, b in pairs)
        recalls = {name: _recall(clips, pairs, name) for name in kinds}
        row = {"case": case, "side": side, "recall of planted": statistics.mean(recalls[name] for name in planted)}
        row |= {"precision": right / len(pairs) if pairs else 1.0, "pairs": len(pairs)}
        result.rows.append(row | recalls)
    own = next(row for row in result.rows if (row["case"], row["side"]) == (case, "goku"))
    for name, least in (("recall of planted", 0.95), ("precision", 0.99)):
        value = own[name]
        result.note(f"{case}: {name} {value:.4f}, target at least {least}: {'met' if value >= least else 'NOT MET'}")


def _recall(clips: list[Clip], pairs: Pairs, kind: str) -> float:
    originals = {clip.place: i for i, clip in enumerate(clips) if clip.kind == "original"}
    copies = [(originals[clip.place], i) for i, clip in enumerate(clips) if clip.kind == kind]
    return sum(tuple(sorted(pair)) in pairs for pair in copies) / len(copies)


def _image_hash(clips: list[Clip], planted: Sequence[str]) -> Pairs:
    """At its best threshold."""
    hashes = np.array([_plain_hash(clip.samples[len(clip.samples) // 2]) for clip in clips], np.uint64)
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None])
    best: tuple[tuple[bool, float], Pairs] = ((False, -1.0), set())
    for threshold in range(0, 25, 2):  # these hashes have as many ones as zeros: distances are even
        pairs = {(int(a), int(b)) for a, b in zip(*np.nonzero(np.triu(distance <= threshold, 1)), strict=True)}
        precise = sum(clips[a].place == clips[b].place for a, b in pairs) / max(1, len(pairs))
        recall = statistics.mean(_recall(clips, pairs, kind) for kind in planted)
        worth = recall if precise >= 0.99 else 2 * precise * recall / max(1e-9, precise + recall)
        best = max(best, ((precise >= 0.99, worth), pairs), key=lambda one: one[0])
    return best[1]


def _plain_hash(rgb: np.ndarray) -> int:
    """ImageHash's phash: luma at 32x32, DCT, the 8x8 lowest against their median."""
    luma = resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), 32, 32).astype(np.float32)
    low = cv2.dct(luma)[:8, :8].ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def _former(clips: list[Clip]) -> Pairs:
    """At most 6 bits, and no tile of 8x8 of three frames further than 10 levels away."""
    hashes, colors = [], []
    for clip in clips:
        count = len(clip.samples)
        low = cv2.dct(resize(cv2.cvtColor(clip.samples[count // 2], cv2.COLOR_RGB2GRAY), 32, 32).astype(np.float32))
        low = low[:8, :8].ravel()
        bits = low > max(20.0, 0.1 * float(np.abs(low[1:]).max()))
        bits[0] = low[0] > 32 * 128
        hashes.append(int.from_bytes(np.packbits(bits).tobytes(), "big"))
        chosen = (clip.samples[i] for i in (count // 4, count // 2, 3 * count // 4))
        colors.append(np.concatenate([resize(image, 8, 8).ravel() for image in chosen]).astype(np.int16))
    return {
        (a, b)
        for a, b in combinations(range(len(clips)), 2)
        if (hashes[a] ^ hashes[b]).bit_count() <= 6 and np.abs(colors[a] - colors[b]).max() <= 10
    }


def _search(result: Result, real: np.ndarray, clips: int, repeats: int) -> None:
    whole, entries = _many_hashes(real, clips)
    radius = Dedup().max_hamming
    result.say(f"search among {clips:,} clips, {cheapest(clips, len(entries), radius)} bands")
    found: list[int] = []

    def search() -> None:
        found.append(sum(len(i) for i, _ in near_pairs(whole, entries, radius)))

    part = whole if clips <= 10_000 else whole[:PART]
    reference: list[int] = []

    def all_pairs() -> None:
        reference.append(sum(len(i) for i, _ in near_pairs(part, entries, radius, 0)))

    times = {"goku": Timing(), "all pairs": Timing()}
    factor = clips / len(part)
    for _ in range(repeats):
        times["goku"].seconds.append(once(search, result.device)[0])
        times["all pairs"].seconds.append(once(all_pairs, result.device)[0] * factor)
    checked = sum(len(i) for i, _ in near_pairs(part, entries, radius, cheapest(clips, len(entries), radius)))
    if checked != reference[0]:
        raise SystemExit(f"the search found {checked} pairs, comparing all found {reference[0]}")
    case = f"search, {clips:,} clips x {len(WINDOWS)} hashes"
    for side, timing in times.items():
        facts = {"pairs": found[0]} if side == "goku" else {}
        result.rows.append({"case": case, "side": side, "median_s": timing.median, "seconds": timing.seconds} | facts)
    result.ratios.append({"case": case} | vars(compare(times, "goku", "all pairs")))
    if factor > 1:
        result.note(f"all pairs from 100,000 clips on: measured for {PART} clips against all others, times n / {PART}")


def _many_hashes(real: np.ndarray, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes as unevenly distributed as real ones: Gaussians with the correlation and the shares of ones of their bits.

    A tenth are copies of others with a few bits changed. Windows of a clip differ from the whole as they do in real ones.
    """
    rng = np.random.default_rng(0)
    bits = np.unpackbits(real[:, 0].astype(">u8").view(np.uint8)).reshape(-1, 64).astype(np.float64)
    correlation = np.corrcoef(bits.T + rng.normal(0, 1e-3, bits.T.shape)) * 0.9 + 0.1 * np.eye(64)
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0))
    edges = np.array([statistics.NormalDist().inv_cdf(min(0.95, max(0.05, 1 - share))) for share in bits.mean(0)])
    whole = np.concatenate(
        [_packed(rng.normal(size=(min(50_000, clips - low), 64)) @ root.T > edges) for low in range(0, clips, 50_000)]
    )
    copies = rng.choice(clips, max(1, clips // 10), replace=False)
    whole[copies] = whole[rng.integers(0, clips, len(copies))] ^ _flips(rng, len(copies), 0.03)
    changed = float(np.mean(np.bitwise_count(real[:, 1:] ^ real[:, :1]))) / 64
    return whole, np.concatenate([whole, *(whole ^ _flips(rng, clips, changed) for _ in WINDOWS[1:])])


def _flips(rng: np.random.Generator, count: int, share: float) -> np.ndarray:
    parts = (min(50_000, count - low) for low in range(0, count, 50_000))
    return np.concatenate([_packed(rng.random((part, 64), np.float32) < share) for part in parts])


def _packed(bits: np.ndarray) -> np.ndarray:
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def _cost(result: Result, options: argparse.Namespace) -> None:
    """Of samples as the survey hands them over: 960 px long."""
    count = 4 if options.small else 10
    frames = [cv2.resize(f, (960, 540)) for f in footage.Scene(0).frames(count / 2)[::EVERY]]
    sides = {
        "signature of a clip": lambda: look(frames),
        "ImageHash's of every frame": lambda: [_plain_hash(frame) for frame in frames],
    }
    case = f"{len(frames)} frames of 960x540"
    times = result.measure(case, sides, [], repeats=3 if options.small else 15, warmup=2)
    for row in result.rows[-2:]:
        row["ms_per_frame"] = 1000 * row["median_s"] / len(frames)
    value = 1000 * times["signature of a clip"].median / len(frames)
    result.note(f"{value:.2f} ms a frame, target below 1: {'met' if value < 1 else 'NOT MET'}")


if __name__ == "__main__":
    main()
