"""Files of prompts: what a line may say, which file it gets, and the lines that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_core.orders import Line, place, read_lines, unused_keys
from goku_core.pipeline.errors import GokuError

FOLDER = Path("o")


def orders(lines: list[Line], clip: bool = False, num: int = 1, negative: str | None = None, image: Path | None = None):
    return place(lines, Path("lists/p.txt"), FOLDER, clip, 3, num, negative, image)


def test_lines_of_text_and_of_json(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_bytes(
        "\ufeffa red circle\r\n\r\n  größer, {not} json  \n".encode()
        + json.dumps(
            {"prompt": "b", "seed": 0, "negative": "", "image": "x.png", "out": "b.png", "tag": 1, "z": 2}
        ).encode()
    )
    lines = read_lines(file)
    assert [line.prompt for line in lines] == ["a red circle", "größer, {not} json", "b"]
    assert (lines[2].seed, lines[2].negative, lines[2].image, lines[2].out) == (0, "", "x.png", "b.png")
    assert unused_keys(lines) == ["tag", "z"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no prompt in it"),
        ("a\n{broken", r"p\.txt, line 2: .*Invalid JSON"),
        ('{"seed": 3}', r"line 1: prompt: Field required"),
        ('{"prompt": ""}', "line 1: prompt"),
        ('{"prompt": "a", "seed": -1}', "line 1: seed"),
        ('{"prompt": "a", "seed": "7"}', "line 1: seed"),
        ('{"prompt": "a", "seed": 9223372036854775808}', "line 1: seed"),
        ('{"prompt": "a", "out": 7}', "line 1: out"),
    ],
)
def test_lines_that_cannot_be_meant(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "p.txt").write_text(text)
    with pytest.raises(GokuError, match=words):
        read_lines(tmp_path / "p.txt")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GokuError, match="UTF-8"):
        read_lines(tmp_path / "p.txt")


def test_seed_negative_and_image_of_a_line_win() -> None:
    lines = [Line(prompt="a"), Line(prompt="b", seed=9, negative="", image="sub/b.png")]
    one, two = orders(lines, clip=True, negative="blur", image=Path("first.png"))
    assert (one.seed, one.negative, one.image, one.out) == (3, "blur", Path("first.png"), FOLDER / "00000.mp4")
    assert (two.seed, two.negative, two.image, two.out) == (9, "", Path("lists/sub/b.png"), FOLDER / "00001.mp4")


def test_several_of_each() -> None:
    made = orders([Line(prompt="a"), Line(prompt="b", seed=9, out="sub/b.png")], num=2)
    assert [(order.seed, order.out.as_posix()) for order in made] == [
        (3, "o/00000-1.png"),
        (4, "o/00000-2.png"),
        (9, "o/sub/b-1.png"),
        (10, "o/sub/b-2.png"),
    ]


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("../b.png", "leads out of"),
        ("/tmp/b.png", "leads out of"),
        ("a/../../b.png", "leads out of"),
        ("b.mp4", "drawn in two calls"),
        ("b", "is no picture"),
        ("00000.png", "written twice"),
    ],
)
def test_files_that_cannot_be_meant(out: str, words: str) -> None:
    with pytest.raises(GokuError, match=words):
        orders([Line(prompt="a"), Line(prompt="b", out=out)])


def test_some_with_a_first_picture_and_some_without_are_told_apart() -> None:
    with pytest.raises(GokuError, match="1 orders have no image"):
        orders([Line(prompt="a"), Line(prompt="b", image="b.png")], clip=True)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 4), st.booleans())
def test_every_order_has_its_own_file_in_the_folder(count: int, num: int, clip: bool) -> None:
    made = orders([Line(prompt=f"p{n}") for n in range(count)], clip=clip, num=num)
    assert len({order.out for order in made}) == len(made) == count * num
    assert all(order.out.parent == FOLDER for order in made)
    assert [order.out for order in made if num == 1] == sorted(order.out for order in made if num == 1)
