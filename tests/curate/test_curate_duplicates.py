"""Near-duplicates: copies are found, other clips are not, and the search finds what comparing all pairs finds."""

from collections.abc import Iterable

import cv2
import numpy as np
import pytest

from benchmarks.measuring import footage, shapes
from goku_core.curate.duplicates import near, semantic
from goku_core.curate.duplicates.join import cheapest, near_pairs
from goku_core.curate.duplicates.likeness import Looks
from goku_core.curate.duplicates.request import Dedup, Semantic
from goku_core.curate.scores import resemblance
from goku_core.pipeline.errors import GokuError
from goku_core.scenes.draw import draw
from goku_core.scenes.scene import sample_scene
from goku_core.scenes.vocabulary import TASKS

EVERY = footage.FPS // 2  # samples are 0.5 s apart


def row(name: str, samples: list[np.ndarray], quality: float = 5.0, kind: str = "video") -> dict:
    facts = {"clip_id": name, "quality_heuristic": quality, "kind": kind, "outcome": "kept"}
    return facts | resemblance.look(samples)


def gone(rows: list[dict], bounds: Dedup | None = None) -> dict[str, str]:
    """Clip that goes -> the sentence against it."""
    return {rows[one.row]["clip_id"]: one.verdict.message for one in near.find(rows, bounds or Dedup())}


@pytest.fixture(scope="module")
def suite() -> list[dict]:
    """Four places; of each a clip, its planted copies, and another take."""
    rows = []
    for ground in range(4):
        scene = footage.Scene(ground, height=180, width=320)
        kinds = (*footage.PLANTED, "letterboxed", "logo")
        clips = {"original": scene.frames(4.0)} | footage.copies(scene, 4.0, 1, kinds)
        clips["other take"] = footage.Scene(ground, 1, 180, 320).frames(4.0)
        rows += [row(f"{ground}:{kind}", frames[::EVERY]) for kind, frames in clips.items()]
    return rows


def test_planted_copies_go_and_other_takes_stay(suite: list[dict]) -> None:
    """The original is made the best of its place, so that every copy is held against it."""
    rows = [one | {"quality_heuristic": 9.0 if "original" in one["clip_id"] else 5.0} for one in suite]
    found = gone(rows)
    for one in rows:
        place, kind = one["clip_id"].split(":")
        if kind in ("original", "other take"):
            assert one["clip_id"] not in found, found
        else:
            assert f"{place}:original" in found[one["clip_id"]]


def test_search_finds_what_all_pairs_give(suite: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(suite)
    for bounds in (
        Dedup(),
        Dedup(max_hamming=12, max_difference=9, max_movement=9, max_color=255),
        Dedup(max_hamming=0),
    ):
        monkeypatch.setattr(near, "FIRST_PART", 10_000)
        all_pairs = near.better_ones(looks, bounds, bands=0)
        for part, bands in ((10_000, 4), (7, 4), (7, 0), (5, None)):
            monkeypatch.setattr(near, "FIRST_PART", part)
            assert near.better_ones(looks, bounds, bands) == all_pairs
    assert len(all_pairs) > 5


@pytest.mark.parametrize("radius", [0, 1, 5, 8, 13])
def test_join_gives_every_near_pair_once(radius: int) -> None:
    rng = np.random.default_rng(radius)
    entries = rng.integers(0, 2**64, 700, dtype=np.uint64)
    entries[350:] &= np.uint64(0xFF)  # many in one bucket
    flips = (rng.random((700, 64)) < 0.1) @ (np.uint64(1) << np.arange(64, dtype=np.uint64)).astype(object)
    queries = entries ^ np.array([int(flip) for flip in flips], np.uint64)
    expected = {
        (i, j)
        for i, a in enumerate(queries.tolist())
        for j, b in enumerate(entries.tolist())
        if (a ^ b).bit_count() <= radius
    }
    for bands in (0, 3, 4, 6, None):
        found = [
            pair
            for i, j in near_pairs(queries, entries, radius, bands)
            for pair in zip(i.tolist(), j.tolist(), strict=True)
        ]
        assert len(found) == len(set(found)) and set(found) == expected
    assert expected or radius < 2


def test_the_search_is_planned_by_its_cost() -> None:
    assert cheapest(20, 200, 8) == 0 and cheapest(1_000_000, 11_000_000, 8) > 0 and cheapest(10**6, 10**7, 40) == 0


def scene(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return draw(sample_scene(rng, TASKS[seed % len(TASKS)]), 240, 428)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])


def test_plain_pictures_are_told_apart_and_their_copies_found() -> None:
    """Shapes on plain grounds, where most frequencies are empty."""
    pictures = [scene(seed) for seed in range(160)]
    rows = [row(f"{seed:03d}", [image], 9.0, "image") for seed, image in enumerate(pictures)]
    alike = set(gone(rows))
    assert len(alike) <= 2  # a shape of the same colour in the same place on nearly the same ground
    for seed in range(0, 160, 8):
        larger = cv2.resize(pictures[seed], (642, 360), interpolation=cv2.INTER_CUBIC)
        rows += [row(f"{seed:03d}-{q}", [jpeg(i, q)], 1.0, "image") for i, q in ((pictures[seed], 60), (larger, 75))]
    found = gone(rows)
    assert len(found) == 40 + len(alike) and all(name[:3] in found[name] for name in found if "-" in name)


def others_that_stay(drawn: Iterable[shapes.Found], every: int, kind: str) -> tuple[set[str], set[str]]:
    """(copies that are not found, what was taken for a copy and is none), by name; the original is the best of its scene."""
    rows = []
    for (scene, take), what, frames in drawn:
        rows.append(row(f"{scene}:{take}:{what}", frames[::every], 9.0 if what == "original" else 1.0, kind))
    found = gone(rows)
    copies = {one["clip_id"] for one in rows if not one["clip_id"].endswith("original")}
    right = {name for name in found if f"like {name.rpartition(':')[0]}:" in found[name]}
    return copies - right, found.keys() - right


def test_the_same_scene_with_other_shapes_is_no_copy() -> None:
    """A star for a circle, of the same colour, size and place: as pictures, moving, and under a moving camera."""
    lost, wrong = others_that_stay(shapes.pictures(36), 1, "image")
    assert wrong == set() and len(lost) <= 1  # the tints of one come out of JPEG too far away
    assert others_that_stay(shapes.clips(8), EVERY, "video") == (set(), set())


def test_a_color_makes_a_difference() -> None:
    ground = np.full((240, 428, 3), 130, np.uint8)
    red, green = (cv2.circle(ground.copy(), (214, 120), 50, c, -1) for c in ((210, 30, 30), (30, 140, 30)))
    assert gone([row("red", [red]), row("green", [green])]) == {}
    assert gone([row("red", [red]), row("green", [green])], Dedup(max_color=255, max_difference=9, max_peak=9)) != {}


def test_the_best_stays_and_kinds_are_not_compared() -> None:
    frames = footage.Scene(3).frames(3.0)[::EVERY]
    rows = [row("a", frames, 1), row("c", frames, 3), row("b", frames, 3), row("picture", frames[:1], 5, "image")]
    found = gone(rows)
    assert found.keys() == {"a", "c"} and "like b" in found["a"] and "like b" in found["c"]  # b wins the tie by its id
    assert gone(rows, Dedup(max_hamming=-1)) == {}
    by_aesthetic = [one | {"aesthetic": score} for one, score in zip(rows, (7.0, 5.0, 6.0, 1.0), strict=True)]
    assert gone(by_aesthetic).keys() == {"b", "c"}  # the paper's measure, where every clip has it
    assert gone([*by_aesthetic[:2], by_aesthetic[2] | {"aesthetic": None}]).keys() == {"a", "c"}


def test_a_chain_of_likeness_keeps_both_ends() -> None:
    """a ~ b ~ c, but a and c differ: with b the best both go, with b the worst only b goes."""
    frames = footage.Scene(5).frames(9.0)
    a, b, c = (frames[k * EVERY : (k + 10) * EVERY : EVERY] for k in (0, 2, 4))
    for qualities, expected in (((1, 9, 1), {"a", "c"}), ((5, 1, 5), {"b"})):
        rows = [row(n, f, q) for n, f, q in zip("abc", (a, b, c), qualities, strict=True)]
        assert gone(rows).keys() == expected


def test_long_clips_of_other_strides_are_compared() -> None:
    frames = footage.Scene(4).frames(13.0)[::EVERY]
    looks = [resemblance.unpack(**resemblance.look(part)) for part in (frames[:24], frames[:25])]
    assert [(one.stride, len(one.luma)) for one in looks] == [(1, 24), (2, 13)]
    assert gone([row("short", frames[:24]), row("long", frames[:25])]).keys() == {"short"}


def test_a_table_without_signatures_is_refused() -> None:
    old = row("old", footage.Scene(1).frames(1.0)) | {"signature": None}
    with pytest.raises(GokuError, match="old has no signature"):
        near.find([old], Dedup())
    with pytest.raises(GokuError, match="older version"):
        near.find([old | {"signature": b"x" * 192}], Dedup())


def test_semantic_duplicates_by_brute_force() -> None:
    """Groups of like directions: the best of each stays, as with one cluster and a loop over all."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 32))
    embeddings = (centres[rng.integers(0, 12, 90)] + rng.normal(0, 0.05, (90, 32))).astype(np.float32)
    rows = [
        {"clip_id": f"{i:02d}", "kind": "video", "outcome": "kept", "quality_heuristic": float(rng.random())}
        | {"clip_embedding": vector.tolist()}
        for i, vector in enumerate(embeddings)
    ]
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    staying: list[int] = []
    for i in sorted(range(90), key=lambda i: -rows[i]["quality_heuristic"]):
        if not staying or (units[staying] @ units[i]).max() < 0.9:
            staying.append(i)
    for clusters in (1, 5):
        found = semantic.find(rows, Semantic(min_cosine=0.9, clusters=clusters))
        assert [one.row for one in found] == sorted(set(range(90)) - set(staying))
        assert all(one.verdict.score >= 0.9 and one.verdict.filter == "semantic_duplicate" for one in found)
    assert found == semantic.find(rows, Semantic(min_cosine=0.9, clusters=5))
    assert semantic.find(rows, Semantic()) == []
    assert semantic.find([one | {"clip_embedding": None} for one in rows], Semantic(min_cosine=0.9)) == []
