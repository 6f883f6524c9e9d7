"""Documents tell the truth: every command in them exists with its options, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from goku_core.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "infra/README.md"])
BLOCK = re.compile(r"^```(?:bash|sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:goku|make) [^`\n]+)`")


def commands(text: str) -> list[str]:
    """Shell lines of code blocks (all of them) and commands quoted in a sentence."""
    lines = [line.removeprefix("$ ") for block in BLOCK.findall(text) for line in block.splitlines()]
    joined = "\n".join(lines).replace("\\\n", " ")
    shell = [part.strip() for line in joined.splitlines() for part in line.split("#")[0].split("&&")]
    return [one for one in [*shell, *INLINE.findall(text)] if one]


def cases() -> list[tuple[str, str]]:
    found = [(path.name, command) for path in DOCUMENTS for command in commands(path.read_text(encoding="utf-8"))]
    return [(name, command) for name, command in dict.fromkeys(found)]


def bare(command: str) -> list[str]:
    """Words of a command without variables set in front and without the folder of the program."""
    words = shlex.split(command)
    while words and re.match(r"^[A-Z_]+=", words[0]):
        words.pop(0)
    return [Path(words[0]).name, *words[1:]] if words else []


GOKU = [case for case in cases() if bare(case[1])[:1] == ["goku"]]
MAKE = [case for case in cases() if bare(case[1])[:1] == ["make"]]


@pytest.mark.parametrize(("document", "command"), GOKU)
def test_goku_command_exists(document: str, command: str) -> None:
    """Parses it as the program would, up to the point where it would do something."""
    words = bare(command)[1:]
    found = get_command(app)
    while hasattr(found, "get_command"):
        if not words:
            return
        context = found.context_class(found, info_name="goku")
        found = found.get_command(context, words[0])
        assert found is not None, f"{document}: there is no command {words[0]!r} in: {command}"
        words = words[1:]
    if words == [] and any(parameter.required for parameter in found.params):
        return  # the command is named, not called
    found.make_context(command, words)


@pytest.mark.parametrize(("document", "command"), MAKE)
def test_make_target_exists(document: str, command: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = [word for word in bare(command)[1:] if "=" not in word]
    assert set(wanted) <= targets, f"{document}: {command}"


def test_there_is_something_to_check() -> None:
    assert len(GOKU) > 15 and len(MAKE) > 3


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_yaml_of_documents_names_real_parameters() -> None:
    """A snippet of params.yaml in a document is checked by the models that check the file itself."""
    import yaml

    from goku_core.config import Params

    texts = [(ROOT / "docs" / name).read_text() for name in ("laptop.md", "collect.md", "captions.md")]
    blocks = [re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL) for text in texts]
    assert all(blocks)
    for block in [block for found in blocks for block in found]:
        for section, values in yaml.safe_load(block).items():
            model = Params.model_fields[section].annotation
            model.model_validate(values)


def test_image_copies_what_exists_and_lets_it_through() -> None:
    """There is no container engine in most places where tests run; what can be wrong without one is checked here."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    steps = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    copies = [word for words in steps if words[0] == "COPY" for word in words[1:-1]]
    assert copies
    for source in copies:
        assert (ROOT / source).exists(), source
        assert source in let_through, f"{source} is copied, but .dockerignore keeps it from the builder"
    users = [words[1] for words in steps if words[0] == "USER"]
    assert users and users[-1] not in ("root", "0"), "the image must not run as root"
    assert {"TORCH_BACKEND=cpu", "BASE_IMAGE=python:3.11-slim"} <= {words[1] for words in steps if words[0] == "ARG"}
    assert not re.search(r"(password|secret|token)\s*=", text, re.IGNORECASE)


def test_scripts_of_the_build_are_sound() -> None:
    run = ROOT / ".ci/run"
    assert run.stat().st_mode & 0o111, ".ci/run must be executable"
    subprocess.run(["bash", "-n", str(run)], check=True, timeout=20)
    for target in ("demo", "test", "smoke", "lint", "pictures"):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr
