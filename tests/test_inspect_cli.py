"""`goku inspect`: says what made a file and whether that can be believed, and its exit code says so too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from signing_keys import make_keys

from goku_core.media.credentials import Signer
from goku_core.media.provenance import Provenance, again_arguments, write_clip, write_picture

MADE = Provenance("ab" * 32, "a [bold]red[/bold] circle's \x1b[31mend", 7, 24, 3.0, 64, 112, upscale=4).now()


def inspect(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "goku_core.cli", "inspect", *arguments]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GOKU_C2PA")}
    return subprocess.run(command, cwd=folder, env=clean | environment, capture_output=True, text=True, check=False)


def test_what_made_it_and_how_to_make_it_again(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8), MADE)
    told = inspect(tmp_path, "a.png")
    assert told.returncode == 0, told.stderr
    for words in (
        "ab" * 32,
        "seed           7",
        "steps          24",
        "64x112 px, enlarged 4x",
        "none: what stands here",
    ):
        assert words in told.stdout
    assert "a [bold]red[/bold] circle's \\x1b[31mend" in told.stdout, "shown, not obeyed"
    command = told.stdout.splitlines()[-1]
    assert command.startswith("  goku generate --model abab")
    facts = json.loads(inspect(tmp_path, "a.png", "--json").stdout)
    assert Provenance.from_json(facts["provenance"]) == MADE
    assert facts["credentials"]["state"] == "none" and facts["again"] == again_arguments(MADE, "a-again.png")


def test_signed_trusted_and_broken(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", signer="The Studio")
    frames = np.stack([np.full((64, 64, 3), 40 * t, np.uint8) for t in range(5)])
    made = replace(MADE, frames=5, fps=6.0)
    write_clip(tmp_path / "a.mp4", frames, 6.0, made, Signer.from_environment(keys.environment()))
    told = inspect(tmp_path, "a.mp4")
    assert told.returncode == 0 and "valid, signed by The Studio of Tests; not checked" in told.stdout
    told = inspect(tmp_path, "a.mp4", "--trust", str(keys.root))
    assert told.returncode == 0 and "The Studio of Tests, who is trusted" in told.stdout
    facts = json.loads(inspect(tmp_path, "a.mp4", "--json", GOKU_C2PA_TRUST=str(keys.root)).stdout)
    assert facts["credentials"]["state"] == "trusted" and facts["provenance"]["frames"] == 5
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    content[content.rindex(b"mdat") + 40] ^= 1
    (tmp_path / "a.mp4").write_bytes(content)
    told = inspect(tmp_path, "a.mp4", "--json")
    assert told.returncode == 1 and json.loads(told.stdout)["credentials"]["state"] == "invalid"
    assert "content credentials do not hold" in told.stderr and "mismatch" in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_a_file_that_says_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    told = inspect(tmp_path, "a.png")
    assert (told.returncode, told.stdout) == (1, "") and "says nothing about how it was made" in told.stderr
    facts = json.loads(inspect(tmp_path, "a.png", "--json").stdout)
    assert facts["provenance"] is None and facts["again"] is None
    told = inspect(tmp_path, "b.png")
    assert told.returncode == 2 and "no such file" in told.stderr


def test_a_file_of_another_maker_is_named_as_such(tmp_path: Path) -> None:
    """Signed with the C2PA library alone: whole credentials, but no provenance of ours."""
    import c2pa

    keys = make_keys(tmp_path / "keys")
    Image.new("RGB", (16, 16)).save(tmp_path / "bare.png")
    info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, keys.chain.read_bytes(), keys.key.read_bytes(), None)
    source = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    action = {"action": "c2pa.created", "digitalSourceType": source}
    said = {"claim_generator_info": [{"name": "A Camera", "version": "2"}],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}]}  # fmt: skip
    with c2pa.Builder(json.dumps(said)) as builder:
        builder.sign_file(tmp_path / "bare.png", tmp_path / "a.png", c2pa.Signer.from_info(info))
    told = inspect(tmp_path, "a.png")
    assert told.returncode == 1 and "not made by goku" in told.stderr and "A Camera 2" in told.stderr


@pytest.mark.parametrize("broken", ["a.png", "a.jpg", "a.mp4"])
def test_a_cut_file_is_no_traceback(tmp_path: Path, broken: str) -> None:
    path = tmp_path / broken
    if broken.endswith("mp4"):
        write_clip(path, np.zeros((5, 16, 16, 3), np.uint8), 6.0, replace(MADE, frames=5, fps=6.0))
    else:
        write_picture(path, np.zeros((16, 16, 3), np.uint8), MADE)
    path.write_bytes(path.read_bytes()[:100])
    told = inspect(tmp_path, broken)
    assert told.returncode == 1 and "Traceback" not in told.stderr and len(told.stderr.splitlines()) == 1
