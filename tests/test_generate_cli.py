"""`goku generate`: options that do not fit are refused with the way out; pictures and clips from a model that draws."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from drawing_workspace import SIZE, drawing_workspace
from signing_keys import make_keys
from typer.testing import CliRunner

from goku_core.cli import app
from goku_core.cli_generate import parse_size, unknown_words, wants_clip
from goku_core.media.credentials import read_credentials
from goku_core.media.decode import frames, read_image
from goku_core.media.encode import write_image
from goku_core.media.provenance import read_provenance
from goku_core.pipeline.errors import GokuError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("drawing")
    return root, drawing_workspace(root)


@pytest.fixture
def champion(trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Digest of the champion; the working folder is its workspace."""
    monkeypatch.chdir(trained[0])
    for name in ("GOKU_C2PA_CERTIFICATE", "GOKU_C2PA_KEY", "GOKU_C2PA_TIMESTAMP_URL", "GOKU_C2PA_TRUST"):
        monkeypatch.delenv(name, raising=False)
    return trained[1]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: object) -> dict[str, object]:
    """What a call of `goku generate --json` that must succeed has printed."""
    result = call("generate", *arguments, "--native", "--json")
    if result.exception:
        raise result.exception
    return json.loads(result.stdout)


def refused(words: str, *arguments: object) -> None:
    result = call("generate", *arguments)
    assert isinstance(result.exception, GokuError), result.output
    assert words in str(result.exception)


def test_suffix_decides_between_picture_and_clip() -> None:
    assert not wants_clip(Path("a.png"), None, None)
    assert not wants_clip(Path("a.png"), 1, None)
    assert wants_clip(Path("a.mp4"), None, None)
    assert wants_clip(Path("A.MP4"), 9, Path("first.png"))


@pytest.mark.parametrize(
    ("name", "frames", "image", "words"),
    [
        ("a.gif", None, None, r"cannot write \.gif"),
        ("a", 17, None, "without suffix"),
        ("a.png", 17, None, "name an .mp4"),
        ("a.png", None, Path("b.png"), "Name an .mp4"),
        ("a.mp4", 16, None, "nearest is 17"),
        ("a.mp4", 1, None, "nearest is 5"),
        ("a.mp4", 0, None, "nearest is 5"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, frames: int | None, image: Path | None, words: str) -> None:
    with pytest.raises(GokuError, match=words):
        wants_clip(Path(name), frames, image)


@pytest.mark.parametrize("text", ["64", "64x100", "axb", "0x16", "-16x16", "64x112x3"])
def test_sizes_the_network_cannot_draw(text: str) -> None:
    with pytest.raises(GokuError, match="--size"):
        parse_size(text)
    assert parse_size("64x112") == (64, 112)


def test_the_nearest_size_is_named() -> None:
    with pytest.raises(GokuError, match="nearest is 64x96"):
        parse_size("60x100")


def test_words_no_caption_had(tmp_path: Path) -> None:
    table = tmp_path / "clips.parquet"
    pq.write_table(pa.table({"caption": ["a red circle", None, "Two blue squares"], "clip_id": ["a", "b", "c"]}), table)
    assert unknown_words(["a blue circle", "two"], table) is None
    assert str(unknown_words(["a red giraffe", "two and two"], table)).startswith("note: giraffe, and:")
    many = [f"w{letter}" for letter in "abcdefghijklmno"]
    assert "wa, wb, wc, wd, we, wf, wg, wh, wi, wj, wk, wl and 3 more: in no" in str(unknown_words(many, table))
    assert unknown_words(["giraffe"], tmp_path / "none.parquet") is None


def test_options_that_exclude_each_other(champion: str, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a red circle\n")
    refused("exclude each other", "a red circle", "--prompts", tmp_path / "p.txt", "--out", tmp_path)
    refused("Nothing to draw", "--out", tmp_path / "a.png")
    refused("--out is missing: name the file", "a red circle")
    refused("--out is missing: name the folder", "--prompts", tmp_path / "p.txt")
    refused("is a file; with --prompts name a folder", "--prompts", tmp_path / "p.txt", "--out", tmp_path / "a.png")
    refused("is no folder", "--prompts", tmp_path / "p.txt", "--out", tmp_path / "p.txt")
    refused("opposite things", "a", "--out", tmp_path / "a.png", "--native", "--upscale", 2)
    refused("--image-guidance needs --image", "a", "--out", tmp_path / "a.mp4", "--image-guidance", 2)
    refused("no effect at guidance 1", "a", "--out", tmp_path / "a.png", "--guidance", 1, "--negative", "blur")
    refused("no such file", "a", "--out", tmp_path / "a.mp4", "--image", tmp_path / "none.png")
    refused("no such file", "--prompts", tmp_path / "none.txt", "--out", tmp_path / "o")
    refused("Give a picture such as", "a", "--out", tmp_path / "a.mp4", "--image", tmp_path / "p.txt")
    refused("continues a given picture", "a", "--out", tmp_path / "a.mp4", "--model", "models/i2v")
    refused(
        "takes no first picture",
        "a",
        "--out",
        tmp_path / "a.mp4",
        "--model",
        "models/first",
        "--image",
        _first(tmp_path),
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first.png", "p.txt"]


def test_picture_and_clip_carry_what_was_asked_for(champion: str, tmp_path: Path) -> None:
    facts = done(
        "a red circle", "--out", tmp_path / "a.png", "--seed", 5, "--steps", 3, "--guidance", 2.5, "--negative", "blue"
    )
    assert (facts["model"], facts["drawn"], facts["size"]) == (champion, 1, list(SIZE))
    made = read_provenance(tmp_path / "a.png")
    assert made is not None and made.made
    assert (made.model, made.prompt, made.negative, made.seed) == (champion, "a red circle", "blue", 5)
    assert (made.steps, made.guidance, made.height, made.width, made.frames) == (3, 2.5, *SIZE, 1)
    done("two blue stars", "--out", tmp_path / "a.mp4", "--frames", 9, "--fps", 12, "--size", "16x48")
    clip = read_provenance(tmp_path / "a.mp4")
    assert clip is not None and (clip.frames, clip.fps, clip.height, clip.width) == (9, 12.0, 16, 48)
    shown = [frame.rgb() for frame in frames(tmp_path / "a.mp4")]
    assert np.stack(shown).shape == (9, 16, 48, 3)


def test_every_choice_changes_the_picture_and_the_seed_alone_decides_the_noise(champion: str, tmp_path: Path) -> None:
    base = ["--steps", 3, "--seed", 3]
    variants = {
        "same": [],
        "seed": ["--seed", 4],
        "steps": ["--steps", 4],
        "guidance": ["--guidance", 9],
        "negative": ["--negative", "two blue stars"],
    }
    drawn = {}
    for name, change in {"base": [], **variants}.items():
        done("a red circle", "--out", tmp_path / f"{name}.png", *base, *change)
        drawn[name] = read_image(tmp_path / f"{name}.png")
    done("two blue stars", "--out", tmp_path / "prompt.png", *base)
    drawn["prompt"] = read_image(tmp_path / "prompt.png")
    assert np.array_equal(drawn["base"], drawn["same"])
    for name in ("seed", "steps", "guidance", "negative", "prompt"):
        assert not np.array_equal(drawn["base"], drawn[name]), name
    # num of them together: each as if drawn alone. One level of 255: sums of another batch size may round otherwise.
    done("a red circle", "--out", tmp_path / "n.png", "--steps", 3, "--seed", 2, "--num", 3)
    together = [read_image(tmp_path / f"n-{k}.png").astype(int) for k in (1, 2, 3)]
    assert np.abs(together[1] - drawn["base"]).max() <= 1
    assert np.abs(together[2] - drawn["seed"]).max() <= 1


def test_a_clip_continues_the_given_picture(champion: str, tmp_path: Path) -> None:
    first = _first(tmp_path)
    done("a red circle", "--out", tmp_path / "a.mp4", "--image", first, "--image-guidance", 1.5)
    done("a red circle", "--out", tmp_path / "b.mp4", "--image", first, "--image-guidance", 4)
    made = read_provenance(tmp_path / "a.mp4")
    assert made is not None and (made.first_frame_name, made.image_guidance) == ("first.png", 1.5)
    one, two = (np.stack([f.rgb() for f in frames(tmp_path / name)]) for name in ("a.mp4", "b.mp4"))
    assert one.shape == two.shape == (5, *SIZE, 3) and not np.array_equal(one, two)


def test_a_file_of_prompts(champion: str, tmp_path: Path) -> None:
    listed = tmp_path / "prompts.jsonl"
    metadata = {"tag": "colors", "include": [{"class": "apple", "count": 1}], "prompt": "a photo of a green square"}
    own = {"prompt": "two blue stars", "seed": 9, "negative": "red", "out": "deep/stars.jpg"}
    listed.write_text("a red circle\n\n" + json.dumps(metadata) + "\n" + json.dumps(own) + "\n")
    result = call("generate", "--prompts", listed, "--out", tmp_path / "o", "--seed", 2, "--native", "--json")
    assert "keys not used: tag, include" in result.stderr
    facts = json.loads(result.stdout)
    files = ["00000.png", "00001.png", "deep/stars.jpg"]
    assert facts["files"] == [str(tmp_path / "o" / name) for name in files] and facts["seeds"] == [2, 2, 9]
    made = [read_provenance(tmp_path / "o" / name) for name in files]
    assert [m.prompt for m in made if m] == ["a red circle", "a photo of a green square", "two blue stars"]
    assert [m.negative for m in made if m] == [None, None, "red"]
    done("a red circle", "--out", tmp_path / "alone.png", "--seed", 2)
    difference = read_image(tmp_path / "alone.png").astype(int) - read_image(tmp_path / "o/00000.png")
    assert np.abs(difference).max() <= 1, "a picture does not depend on what is drawn beside it"


def test_drawing_goes_on_where_it_was_stopped(champion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from goku_core import orders

    listed, out = tmp_path / "p.txt", tmp_path / "o"
    listed.write_text("a red circle\ntwo blue stars\na green square above a star\n")
    monkeypatch.setattr(orders, "PIECE_SAMPLES", 1)
    written = []

    def killed(path, *rest, **more):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        return whole(path, *rest, **more)

    whole = orders.write_picture
    monkeypatch.setattr(orders, "write_picture", killed)
    assert call("generate", "--prompts", listed, "--out", out).exit_code != 0
    assert sorted(p.name for p in out.iterdir()) == ["00000.png", "00001.png"]
    monkeypatch.setattr(orders, "write_picture", whole)
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    assert (facts := json.loads(call("generate", "--prompts", listed, "--out", out, "--json").stdout))["drawn"] == 1
    assert facts["kept"] == 2 and {n: (out / n).stat().st_mtime_ns for n in before} == before
    assert json.loads(call("generate", "--prompts", listed, "--out", out, "--json").stdout)["drawn"] == 0
    # other terms, another line, a file that somebody replaced: exactly those are drawn
    assert json.loads(call("generate", "--prompts", listed, "--out", out, "--steps", 3, "--json").stdout)["drawn"] == 3
    listed.write_text("a red circle\ntwo red stars\na green square above a star\n")
    write_image(out / "00002.png", np.zeros((16, 16, 3), np.uint8))
    assert json.loads(call("generate", "--prompts", listed, "--out", out, "--steps", 3, "--json").stdout)["drawn"] == 2


def test_killed_while_it_writes_and_called_again(champion: str, tmp_path: Path) -> None:
    """kill -9 as soon as there is a file; then every file is there, whole, and what was there was not drawn again."""
    listed, out = tmp_path / "p.txt", tmp_path / "o"
    listed.write_text("".join(f"{n} red circles\n" for n in range(192)))
    command = [sys.executable, "-m", "goku_core.cli", "generate", "--prompts", str(listed), "--out", str(out), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(out.glob("[0-9]*.png")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGSTOP)  # it still holds the folder, and comes no further
        refused("Another `goku generate` is writing", "--prompts", listed, "--out", out)
        process.kill()
    kept = sorted(out.glob("[0-9]*.png"))
    assert 0 < len(kept) < 192, "killed in between"
    assert all(read_provenance(path) and read_image(path).shape == (256, 256, 3) for path in kept)
    facts = json.loads(call("generate", "--prompts", listed, "--out", out, "--json").stdout)
    assert facts["kept"] == len(kept) and facts["drawn"] == 192 - len(kept)
    assert sorted(path.name for path in out.iterdir()) == [f"{n:05d}.png" for n in range(192)], (
        "nothing unfinished stays"
    )


def test_files_are_signed_where_a_key_is_configured(
    champion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, out = tmp_path / "p.txt", tmp_path / "o"
    listed.write_text("a red circle\ntwo blue stars\n")
    call("generate", "--prompts", listed, "--out", out)
    for name, value in make_keys(tmp_path / "keys").environment().items():
        monkeypatch.setenv(name, value)
    facts = json.loads(call("generate", "--prompts", listed, "--out", out, "--json").stdout)
    assert facts["signed"] and facts["drawn"] == 2, "an unsigned file is not what was asked for"
    assert {read_credentials(path).state for path in out.iterdir()} == {"valid"}
    assert json.loads(call("generate", "--prompts", listed, "--out", out, "--json").stdout)["drawn"] == 0
    done("a red circle", "--out", tmp_path / "a.mp4", "--frames", 5)
    assert read_credentials(tmp_path / "a.mp4").state == "valid"
    monkeypatch.setenv("GOKU_C2PA_KEY", str(tmp_path / "nowhere.pem"))
    refused("cannot be read", "a red circle", "--out", tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def _first(folder: Path) -> Path:
    picture = np.zeros((48, 48, 3), np.uint8)
    picture[12:36, 12:36] = (220, 20, 20)
    write_image(folder / "first.png", picture)
    return folder / "first.png"


def test_drawn_again_from_what_inspect_prints(champion: str, tmp_path: Path) -> None:
    """The arguments that `goku inspect --json` gives draw the same pixels."""
    first = _first(tmp_path)
    shutil.copy(first, "first.png")
    cases = {
        "p.png": ["a red circle", "--seed", 2**63 - 1, "--steps", 3, "--guidance", 1 / 3, "--upscale", 2],
        "n.jpg": ["two \"blue\" 'stars'", "--negative", "-red", "--size", "48x16"],
        "c.mp4": ["a red circle", "--frames", 9, "--fps", 7.5, "--num", 1],
        "i.mp4": ["a red circle", "--image", "first.png", "--image-guidance", 2],
    }
    for name, asked in cases.items():
        result = call("generate", "--out", tmp_path / name, *asked)
        assert result.exit_code == 0, result.exception
        inspected = call("inspect", tmp_path / name, "--json")
        again = json.loads(inspected.stdout)["again"]
        assert again[:2] == ["goku", "generate"] and again[-4:-2] == [
            "--out",
            f"{Path(name).stem}-again{Path(name).suffix}",
        ]
        redrawn = call(*again[1:])
        assert redrawn.exit_code == 0, redrawn.exception
        one, two = tmp_path / name, Path(again[-3])
        if name.endswith(".mp4"):
            assert all(np.array_equal(a.rgb(), b.rgb()) for a, b in zip(frames(one), frames(two), strict=True))
        else:
            assert np.array_equal(read_image(one), read_image(two))
        left, right = read_provenance(one), read_provenance(two)
        assert left is not None and right is not None and left.same_pixels(right)
        two.unlink()
    Path("first.png").unlink()


def test_the_documented_python_runs(champion: str) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs/generate.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "docs/generate.md", "exec"), names)
    pictures = names["pictures"]
    assert isinstance(pictures, np.ndarray) and pictures.shape == (2, *SIZE, 3) and pictures.dtype == np.uint8
