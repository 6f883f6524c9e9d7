"""Scenes keep their promises: inside the picture, apart from each other, in the relation that is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from goku_core.scenes.draw import draw, outline
from goku_core.scenes.scene import ASPECT, Background, Scene, Thing, sample_background, sample_scene
from goku_core.scenes.vocabulary import COLORS, DIRECTIONS, GENEVAL_TASKS, SHAPES, TASKS, ZOOMS

HEIGHT, WIDTH = 240, 426
LUMA = np.array([0.299, 0.587, 0.114])


def boxes(scene: Scene, time: float = 0.0) -> np.ndarray:
    """(n, 4) left, top, right, bottom in pixels."""
    corners = [outline(thing, HEIGHT, WIDTH) for thing in scene.things_at(time)]
    return np.array([[*c.min(0), *c.max(0)] for c in corners])


@pytest.mark.parametrize("task", TASKS)
def test_same_generator_state_same_scene(task: str) -> None:
    assert sample_scene(np.random.default_rng(5), task) == sample_scene(np.random.default_rng(5), task)


@pytest.mark.parametrize("task", TASKS)
def test_things_lie_inside_during_the_whole_shot_and_apart(task: str) -> None:
    rng = np.random.default_rng(1)
    for seconds in (2.5, 3.2, 4.0):
        for _ in range(60):
            scene = sample_scene(rng, task, seconds=seconds)
            for time in (0.0, seconds / 2, seconds):
                found = boxes(scene, time)
                assert found[:, :2].min() > 0
                assert found[:, 2].max() < WIDTH and found[:, 3].max() < HEIGHT
                for i in range(len(found)):
                    for j in range(i):
                        apart = max(*(found[i, :2] - found[j, 2:]), *(found[j, :2] - found[i, 2:]))
                        assert apart >= 0.02 * HEIGHT


def test_relations_hold_by_genevals_rule() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        scene = sample_scene(rng, "position")
        first, second = boxes(scene)
        offset = (first[:2] + first[2:] - second[:2] - second[2:]) / 2
        extents = (first[2:] - first[:2]) + (second[2:] - second[:2])
        kept = np.sign(offset) * np.maximum(np.abs(offset) - 0.1 * extents, 0)
        x, y = kept / np.linalg.norm(offset)
        held = {
            name
            for name, yes in {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}.items()
            if yes
        }
        assert held == {scene.relation}


def test_motion_is_fast_enough_and_one_way() -> None:
    rng = np.random.default_rng(3)
    for direction in DIRECTIONS:
        scene = sample_scene(rng, "motion", motion=direction, seconds=2.5)
        (start, end) = scene.things_at(0)[0], scene.things_at(2.0)[0]
        way = {"left": start.x - end.x, "right": end.x - start.x, "up": start.y - end.y, "down": end.y - start.y}
        assert 0.29 <= way[direction] <= 0.46
        assert sum(abs(v) for v in way.values()) == pytest.approx(2 * way[direction])


def test_zoom_scales_things_by_1_6_over_the_shot() -> None:
    rng = np.random.default_rng(4)
    for way in ZOOMS:
        scene = sample_scene(rng, "zoom", motion=way, seconds=3.0)
        ratio = scene.things_at(3.0)[0].size / scene.things_at(0)[0].size
        assert ratio == pytest.approx(1.6 if way == "in" else 1 / 1.6)
        assert draw(scene, 96, 168, 3.0).std() > 0


def test_tasks_have_the_right_number_of_things() -> None:
    rng = np.random.default_rng(6)
    numbers = {task: {len(sample_scene(rng, task).things) for _ in range(60)} for task in GENEVAL_TASKS}
    assert numbers["single_object"] == numbers["colors"] == {1}
    assert numbers["two_object"] == numbers["position"] == numbers["color_attr"] == {2}
    assert numbers["counting"] == {2, 3, 4}


def test_unknown_task_is_named() -> None:
    with pytest.raises(ValueError, match="juggling"):
        sample_scene(np.random.default_rng(0), "juggling")


@pytest.mark.parametrize("shape", SHAPES)
def test_drawing_puts_the_colour_where_the_thing_is(shape: str) -> None:
    ground = Background("plain", (128, 128, 128), (128, 128, 128))
    picture = draw(Scene("colors", (Thing(shape, "red", 0.3, 0.6, 0.4),), ground), HEIGHT, WIDTH)
    painted = np.abs(picture.astype(int) - COLORS["red"]).max(2) < 8
    ys, xs = np.nonzero(painted)
    assert (xs.min() + xs.max()) / 2 == pytest.approx(0.3 * WIDTH, abs=1.5)
    assert (ys.min() + ys.max()) / 2 == pytest.approx(0.6 * HEIGHT, abs=1.5)
    side = 0.4 * HEIGHT
    assert 0.8 * side <= xs.max() - xs.min() + 1 <= 1.02 * side
    edge = (picture != (128, 128, 128)).any(2) & ~painted
    assert edge.any(), "edges are anti-aliased"


def test_grounds_are_grey_and_smooth() -> None:
    rng = np.random.default_rng(7)
    for _ in range(40):
        scene = Scene("colors", (), sample_background(rng, textured=True))
        picture = draw(scene, HEIGHT, WIDTH).astype(int)
        assert picture.min() > 44 and picture.max() < 205
        assert (picture.max(2) - picture.min(2)).max() <= 36
        assert np.abs(np.diff(picture, axis=0)).max() <= 6


def test_next_ground_differs_clearly_and_every_colour_occurs() -> None:
    rng = np.random.default_rng(8)
    scene, counts = sample_scene(rng, "motion"), dict.fromkeys(COLORS, 0)
    for _ in range(300):
        after = sample_scene(rng, "motion", unlike=scene.background)
        pictures = [draw(replace(s, things=()), 60, int(60 * ASPECT)).mean() for s in (scene, after)]
        assert abs(pictures[0] - pictures[1]) > 30
        counts[after.things[0].color] += 1
        scene = after
    assert min(counts.values()) > 15


def test_things_differ_from_their_ground_in_luma_too() -> None:
    rng = np.random.default_rng(9)
    for task in TASKS:
        for _ in range(20):
            scene = sample_scene(rng, task)
            ground = draw(replace(scene, things=()), 60, 106) @ LUMA
            for thing in scene.things:
                assert np.abs(ground - COLORS[thing.color] @ LUMA).min() > 12
