"""params.yaml is changed in place: values and comments that nobody asked to change stay as they are, to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from goku_core import config
from goku_core.cli import app
from goku_core.params_text import annotated, with_missing, with_value
from goku_core.pipeline.errors import GokuError

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "params/nano.yaml").read_text()
SILENT = re.compile(r"^ {6}(steps|images|tokens|learning_rate|warmup|decay): ", re.MULTILINE)


@pytest.mark.parametrize(
    ("key", "value", "written"),
    [
        ("train.phases.joint_low.learning_rate", 0.00125, "0.00125"),
        ("train.model.depth", 4, "4"),  # null in the file, with a comment behind it
        ("train.sampling.guidance_interval", [0.1, 0.9], "[0.1, 0.9]"),
        ("train.optimizer", "adamw", "adamw"),
        ("curate.gate.hdr", True, "true"),
    ],
)
def test_one_value_changes_and_nothing_else(key: str, value: object, written: str) -> None:
    changed = with_value(TEXT, key, value)
    place = yaml.safe_load(changed)
    for part in key.split("."):
        place = place[part]
    assert place == value
    before, after = TEXT.splitlines(), changed.splitlines()
    different = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    ((old, new),) = different
    assert written in new and old.split("#")[1:] == new.split("#")[1:]


def test_what_cannot_be_changed_in_place_is_refused() -> None:
    with pytest.raises(GokuError, match="is not written in the file"):
        with_value(TEXT, "train.phases.joint_low.lerning_rate", 1.0)
    with pytest.raises(GokuError, match="holds several lines"):
        with_value(TEXT, "train.phases.joint_low", 1.0)


@pytest.mark.parametrize(
    "gone", ["train.validation.every", "train.muon_ratio", "curate.dedup", "train.phases.joint_mid.freeze", "tune"]
)
def test_missing_keys_are_filled_in_behind_their_neighbours(gone: str, tmp_path: Path) -> None:
    """Taken out of the file by its lines, a key comes back with its default, and everything else is untouched."""
    params = config.load_params(ROOT / "params/nano.yaml")
    *path, last = gone.split(".")
    start, end = _lines_of(TEXT, gone)
    lines = TEXT.split("\n")
    cut = "\n".join([*lines[:start], *lines[end:]])
    assert last not in _section(yaml.safe_load(cut), path)
    (tmp_path / "params.yaml").write_text(cut)
    filled, added = with_missing(cut, config.load_params(tmp_path / "params.yaml"))
    assert added == [gone]
    left = iter(filled.split("\n"))
    assert all(line in left for line in cut.split("\n")), "a line was changed or moved"
    again = config.check(yaml.safe_load(filled), config.Params, "filled")
    assert set(_section(yaml.safe_load(filled), path)) == set(_section(yaml.safe_load(TEXT), path))
    assert again.model_dump(exclude={"train", "tune", "curate"}) == params.model_dump(
        exclude={"train", "tune", "curate"}
    )


def _section(value: dict, path: list[str]) -> dict:
    for part in path:
        value = value[part]
    return value


def _lines_of(text: str, key: str) -> tuple[int, int]:
    """First line of a key and the one behind its content."""
    node, line = yaml.compose(text, Loader=yaml.SafeLoader), 0
    for part in key.split("."):
        pairs = [(k, v) for k, v in node.value if k.value == part]
        line, node = pairs[0][0].start_mark.line, pairs[0][1]
    while isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        node = node.value[-1][1]
    return line, node.end_mark.line + 1


def test_a_complete_file_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(TEXT)
    done = CliRunner().invoke(app, ["params", "fill", "--json"])
    assert done.exit_code == 0 and done.stdout.strip() == '{"added": []}'
    assert (tmp_path / "params.yaml").read_text() == TEXT


def test_a_short_file_is_filled_to_a_valid_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    phases = {"first": {"init_from": "vae", "resolution": "low", "steps": 3}}
    short = {key: {} for key in ("collect", "curate", "vae", "promote", "evaluate")}
    short |= {"precompute": {"resolutions": {"low": {"height": 32, "width": 32}}}, "train": {"phases": phases}}
    names = {"image_model": "first", "video_model": None, "image_to_video_model": None}
    short |= {"evaluate": names, "promote": dict(names)}
    (tmp_path / "params.yaml").write_text("# mine\n" + yaml.safe_dump(short, sort_keys=False, default_flow_style=False))
    before = config.load_params(tmp_path / "params.yaml")
    done = CliRunner().invoke(app, ["params", "fill"], catch_exceptions=False)
    assert done.exit_code == 0
    text = (tmp_path / "params.yaml").read_text()
    assert text.startswith("# mine\n") and "learning_rate: 0.001  # peak learning rate" in text
    assert config.load_params(tmp_path / "params.yaml") == before
    assert yaml.safe_load(annotated(before)) == yaml.safe_load(text)


@pytest.mark.parametrize("name", ["goku-2b", "goku-8b", "pilot-1b"])
def test_presets_say_what_is_the_papers_and_what_is_not(name: str) -> None:
    """Each value of a phase on which the paper is silent, or which it states, has a comment that says so."""
    text = (ROOT / f"params/{name}.yaml").read_text()
    phases = text[text.index("\n  phases:") : text.index("\n  transport:")]
    parts = re.split(r"^ {4}(\w+):$", phases, flags=re.MULTILINE)
    assert len(parts) > 2
    for phase, body in zip(parts[1::2], parts[2::2], strict=True):
        for found in SILENT.finditer(body):
            above = body[: found.start()].rstrip("\n").split("\n")
            comment = []
            while above and above[-1].strip().startswith("#"):
                comment.insert(0, above.pop())
            line = body[found.start() : body.find("\n", found.start())]
            said = " ".join([*comment, line])
            if found.group(1) == "images" and "images: 1  " in f"{line}  ":
                continue  # a phase of pictures or clips alone: the stage itself says so
            if found.group(1) == "images" and "images: 0" in line:
                continue
            assert "our choice" in said or "paper" in said, f"{name}: {phase}.{found.group(1)}"


def test_the_presets_of_the_paper_have_its_stages_and_resolutions() -> None:
    for name in ("goku-2b", "goku-8b"):
        params = config.load_params(ROOT / f"params/{name}.yaml")
        sizes = {key: (one.height, one.width) for key, one in params.precompute.resolutions.items()}
        assert sizes == {"low": (288, 512), "mid": (480, 864), "high": (720, 1280)}
        phases = params.train.phases
        assert [phases[key].resolution for key in ("joint_low", "joint_mid", "joint_high")] == ["low", "mid", "high"]
        assert phases["text_semantic"].clips == 0 and phases["finetune_i2v"].steps == 10_000
        assert phases["finetune_i2v"].image_condition and phases["finetune_i2v"].init_from == "finetune_t2v"
        assert (params.vae.kind, params.precompute.text.weights) == ("cogvideox", "google/flan-t5-xl")
        assert [params.curate.tiers[key].aesthetic_min for key in params.curate.tiers] == [4.3, 4.5, 4.5]  # Table 4
        assert params.train.model.name == name.removeprefix("goku-")
