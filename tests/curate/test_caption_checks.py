"""What is wrong with a caption; camera words; prompts; and what the recipe takes when a step fails."""

import pytest
from chat_server import Asked, ChatServer, Reply, frames, row, settings

from goku_core.chat.wording import tidy
from goku_core.curate.captions.camera import camera_words, lost
from goku_core.curate.captions.checks import problem, repetition
from goku_core.curate.captions.request import Captions, Checks
from goku_core.curate.captions.step import describe
from goku_core.curate.captions.templates import NAMES, Templates
from goku_core.pipeline.errors import GokuError

GOOD = (
    "A young woman in a yellow raincoat walks along a wet street at night, past shop windows that glow in red and blue."
)
LAKE = "A wooden boat lies still on a mirror-like lake between dark firs, with a snowy ridge in the distance at dawn."
GOODS = [
    GOOD,
    LAKE,
    "Two chefs in white jackets slice vegetables on a long steel table while steam rises from a pot behind them.",
    "The camera pans left over a market stall with apples, oranges and grapes; an old man in a grey cap weighs fruit.",
    "Sorry-looking wet dogs wait in front of a small shop that has closed for the day, under a striped awning.",
    "A close-up of a hand that turns the pages of an old atlas, then traces the line of a river with one finger.",
]
BAD = [
    ("", "empty"),
    ("...", "empty"),
    ("I'm sorry, but I can't assist with that request because it shows a person in the picture.", "refusal"),
    ("As an AI language model, I do not see pictures, but the scene could be a city at night in the rain.", "refusal"),
    ("I am unable to view the video. Could you tell me more about what happens in it, so that I can help?", "refusal"),
    ("No image was provided, so the description of the scene is left empty for the time being, as asked.", "refusal"),
    ("抱歉，我无法查看这张图片。", "refusal"),
    ("Sure! A young woman in a yellow raincoat walks along a wet street at night, past some shop windows.", "talks to"),
    ("Here is a detailed caption of the clip: a woman walks along a wet street at night in the rain.", "talks to"),
    ("Caption: A woman walks along a wet street at night, in the rain, past the windows of several shops.", "talks to"),
    ("A boat on a lake.", "too short: 5 words, at least 8"),
    (" ".join(f"word{n} of the" for n in range(200)), "too long: 600 words, at most 400"),
    (GOOD + " " + GOOD + " " + GOOD, "repeats itself"),
    ("A red boat on a lake lake lake lake lake lake lake near the old wooden pier in the evening.", "repeats itself"),
    (
        "Eine junge Frau in einem gelben Regenmantel geht nachts auf der nassen Straße, und die Fenster sind rot.",
        "reads like de",
    ),
    ("Une jeune femme dans un manteau jaune marche sur la rue, devant les vitrines des magasins du quartier.", "fr"),
    ("Una mujer joven con un abrigo amarillo camina por la calle en la noche y los coches pasan por su lado.", "es"),
    ("一位穿着黄色雨衣的年轻女子走在夜晚湿漉漉的街道上", "language: 0% of its letters"),
    ("woman, raincoat, street, night, city, rain, neon, walking, window, shop, red, blue, wet, dark", "list of words"),
    (
        "Say only what can be seen. Do not guess names, thoughts or what happened before. A woman walks at night.",
        "says the prompt back",
    ),
]


@pytest.mark.parametrize("caption", GOODS, ids=range(len(GOODS)))
def test_good_captions_pass(caption: str) -> None:
    assert problem(tidy(caption), Checks(), Templates().instructions("image")) is None


@pytest.mark.parametrize(("caption", "says"), BAD)
def test_each_fault_has_its_name(caption: str, says: str) -> None:
    assert says in (problem(tidy(caption), Checks(), Templates().instructions("image")) or "nothing")


def test_an_answer_that_was_cut_off_is_no_caption() -> None:
    assert problem(GOOD, Checks(), finish="length") == "cut off: the answer reached max_tokens"


def test_other_languages_may_be_wanted() -> None:
    chinese = "一位穿着黄色雨衣的年轻女子走在夜晚湿漉漉的街道上，橱窗里亮着红色和蓝色的灯光。"
    assert problem(chinese, Checks(language="zh")) is None and problem(chinese, Checks(language="any")) is None
    assert problem(GOOD, Checks(language="zh")).startswith("language")


def test_repetition_is_the_share_of_sequences_seen_before() -> None:
    assert repetition(["a", "b", "c", "d", "e", "f", "g", "h"]) == 0 and repetition(["a", "b"]) == 0
    assert repetition(["a", "b", "c", "d", "a", "b", "c", "d"]) == pytest.approx(1 / 5)


def test_tidy_makes_one_paragraph() -> None:
    assert tidy('  "A boat.\n\nOn a  lake." ') == "A boat. On a lake." and tidy("**A boat**") == "A boat"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("The camera zooms in on a face.", ["zoom in"]),
        ("a slow zoom-out; then the camera pans slowly to the right", ["zoom out", "pan right"]),
        ("The camera moves to the left while tilting up.", ["pan left", "tilt up"]),
        ("A handheld tracking shot follows the runner.", ["tracking", "handheld"]),
        ("The camera remains static as an aerial shot opens.", ["static", "aerial"]),
        ("The camera dollies in, orbits the statue, then pulls back.", ["push in", "pull out", "orbit"]),
        ("She zooms past on a bike, turns left, and her frame of mind is right.", []),
    ],
)
def test_camera_words(text: str, names: list[str]) -> None:
    assert camera_words(text) == names


def test_camera_words_may_be_said_in_another_way_but_not_dropped() -> None:
    before = "A dog runs. The camera pans to the left and zooms in."
    assert lost(before, "While the camera is zooming in and panning left, a dog runs.") == []
    assert lost(before, "A dog runs through a field as the camera zooms in.") == ["pan left"]


def test_own_templates_are_checked_before_anything_is_asked(tmp_path) -> None:
    folder = tmp_path / "prompts"
    with pytest.raises(GokuError, match="is no folder"):
        Templates(folder)
    folder.mkdir()
    with pytest.raises(GokuError, match=r"holds no \*\.j2"):
        Templates(folder)
    (folder / "merge.j2").write_text("Join {{ keyframe }} and {{ clip }}")
    with pytest.raises(GokuError, match=r"merge\.j2.*'keyframe' is undefined.*Variables are kind"):
        Templates(folder)
    (folder / "merge.j2").write_text("Join\n{% if %}")
    with pytest.raises(GokuError, match=r"merge\.j2, line 2"):
        Templates(folder)
    (folder / "merge.j2").write_text("Join {{ keyframes }} and {{ clip }}")
    mine = Templates(folder)
    assert mine.render("merge", {"keyframes": "A", "clip": "B"}) == "Join A and B"
    package = Templates()
    assert {n for n in NAMES if mine.digests[n] != package.digests[n]} == {"merge"}
    (folder / "merging.j2").write_text("x")
    with pytest.raises(GokuError, match="no such template"):
        Templates(folder)


def test_a_template_cannot_reach_into_the_program(tmp_path) -> None:
    (tmp_path / "image.j2").write_text("{{ ''.__class__.__mro__ }}")
    with pytest.raises(GokuError, match="unsafe"):
        Templates(tmp_path)


CLIP = "A woman walks along a street and looks back once, while the camera pans left and then zooms in on her face."
MERGED = "A woman in a yellow raincoat walks along a wet street; the camera pans left, then zooms in on her face."


def three(url: str, **changes) -> Captions:
    roles = {role: {"kind": "server", "model": role, "url": url} for role in ("keyframes", "clip", "merge")}
    roles["merge"]["frames"] = 0
    return settings(url, **(roles | changes))


def by_model(replies: dict[str, list[str]]):
    """Each model says its lines one after the other, the last one for ever."""
    said = {name: list(lines) for name, lines in replies.items()}

    def answer(asked: Asked) -> Reply:
        lines = said[asked.body["model"]]
        return Reply(lines.pop(0) if len(lines) > 1 else lines[0])

    return answer


def test_the_papers_recipe_merges_two_captions(tmp_path) -> None:
    with ChatServer(by_model({"keyframes": [GOOD], "clip": [CLIP], "merge": [MERGED]})) as server:
        rows = [row(1), row(2, "image")]
        describe(rows, three(server.url), tmp_path, frames, lambda done: None)
    assert (rows[0]["caption"], rows[0]["caption_source"]) == (MERGED, "merge")
    assert (rows[1]["caption"], rows[1]["caption_source"]) == (GOOD, "keyframes")
    merging = [asked for asked in server.log if asked.body["model"] == "merge"]
    assert len(merging) == 1 and GOOD in merging[0].prompt and CLIP in merging[0].prompt
    assert merging[0].images == [] and "camera: zoom in, pan left." in merging[0].prompt
    assert sorted(asked.body["model"] for asked in server.log) == ["clip", "keyframes", "keyframes", "merge"]


def test_a_failed_caption_is_asked_for_once_more_in_another_way(tmp_path) -> None:
    with ChatServer(by_model({"intern": ["I'm sorry, I cannot help with that.", GOOD]})) as server:
        rows = [row(1)]
        describe(rows, settings(server.url), tmp_path, frames, lambda done: None)
    assert rows[0]["caption"] == GOOD and rows[0]["caption_problem"] is None
    first, second = (asked.body for asked in server.log)
    assert first["temperature"] == 0.2 and second["temperature"] == 0.7 and first["seed"] != second["seed"]


@pytest.mark.parametrize(
    ("said", "source", "problem_says"),
    [
        ({"merge": ["A woman walks on a wet street in a yellow coat at night."]}, "clip", "merge: camera motion lost"),
        ({"merge": ["No."]}, "clip", "merge: too short: 1 words"),
        ({"clip": ["I cannot view the video."]}, "keyframes", "clip: refusal"),
        ({"keyframes": [GOOD * 3]}, "clip", "keyframes: repeats itself"),
        (
            {"keyframes": ["no"], "clip": ["no"]},
            "sidecar",
            "clip: too short: 1 words, at least 8; keyframes: too short",
        ),
    ],
)
def test_what_fails_twice_falls_back_by_name(tmp_path, said: dict, source: str, problem_says: str) -> None:
    with ChatServer(by_model({"keyframes": [GOOD], "clip": [CLIP], "merge": [MERGED]} | said)) as server:
        rows = [row(1, caption="from beside the file")]
        describe(rows, three(server.url), tmp_path, frames, lambda done: None)
        caption = {"clip": CLIP, "keyframes": GOOD, "sidecar": "from beside the file"}[source]
        assert (rows[0]["caption"], rows[0]["caption_source"]) == (caption, source)
        assert problem_says in rows[0]["caption_problem"]
        failed = [asked for asked in server.log if asked.body["model"] in said]
        assert len(failed) == 2 * len(said)
        asked = len(server.log)
        again = [row(1, caption="from beside the file")]
        describe(again, three(server.url), tmp_path, frames, lambda done: None)
        assert again == rows and len(server.log) == asked  # a fault is an answer too: it is not asked for again


def test_merging_needs_two() -> None:
    with pytest.raises(ValueError, match="configure keyframes and clip as well"):
        settings("http://h/v1", merge={"kind": "server", "model": "q", "url": "http://h/v1"})
