"""A changed parameter concerns what depends on it and nothing else, read twice: from the line, and by DVC from dvc.yaml."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from goku_core.config import Params, check, read_yaml
from goku_core.pipeline import line

ROOT = Path(__file__).resolve().parents[2]
PHASES = ["text_semantic", "joint_low", "joint_mid", "joint_high", "finetune_t2i", "finetune_t2v", "finetune_i2v"]
EVERY_PHASE = [f"train@{name}" for name in PHASES]
BEHIND = ["evaluate", "promote"]

# key, another value, the cells that have to run
CHANGES = [
    ("seed", 1, ["collect", "curate", "vae", "precompute", *EVERY_PHASE, *BEHIND]),
    ("collect.download.round", 2, ["collect", "curate", "vae", "precompute", *EVERY_PHASE, *BEHIND]),
    ("curate.max_clip_seconds", 9, ["curate", "vae", "precompute", *EVERY_PHASE, *BEHIND]),
    ("vae.steps", 251, ["vae", "precompute", *EVERY_PHASE, *BEHIND]),
    ("precompute.windows_per_clip", 3, ["precompute", *EVERY_PHASE, *BEHIND]),
    ("train.ema_decay", 0.5, [*EVERY_PHASE, *BEHIND]),
    ("train.phases.joint_low.steps", 21, [*EVERY_PHASE[1:], *BEHIND]),
    ("train.phases.finetune_t2i.warmup", 3, ["train@finetune_t2i", *BEHIND]),
    ("train.phases.finetune_t2v.warmup", 3, ["train@finetune_t2v", "train@finetune_i2v", *BEHIND]),
    ("evaluate.bootstrap", 1999, BEHIND),
    ("promote.gate.minimum_score", 0.1, ["promote"]),
    # How work is done, where it is shown and what it costs is not what it is.
    ("train.checkpoint.every", 7, []),
    ("train.faults.hang_factor", 11.0, []),
    ("train.phases.joint_low.pack_tokens", 900, []),
    ("tracking.experiment", "another", []),
    ("plan.prices.cpu_hour", 9.0, []),
    ("tune.trials", 3, []),
]


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """What DVC makes of dvc.yaml: by stage its parameters, and the stages it waits for."""
    place = tmp_path_factory.mktemp("dvc")
    for name in ("dvc.yaml", "params.yaml", ".gitignore"):
        (place / name).write_text((ROOT / name).read_text())
    (place / ".dvc").mkdir()
    (place / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    program = (
        "import json, sys\nfrom dvc.repo import Repo\nindex = Repo(sys.argv[1]).index\n"
        "print(json.dumps({s.name: [[p for d in s.deps for p in getattr(d, 'params', [])],\n"
        "  [other.name for other in index.graph.successors(s)]] for s in index.stages}))"
    )
    done = subprocess.run([sys.executable, "-c", program, place], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(("key", "value", "expected"), CHANGES, ids=[key for key, *_ in CHANGES])
def test_one_changed_parameter(stages, key, value, expected):
    assert by_the_line(key, value) == set(expected)
    assert by_dvc(stages, key) == set(expected)


def by_the_line(key, value):
    before = read_yaml(ROOT / "params.yaml")
    after = copy.deepcopy(before)
    place = after
    *sections, last = key.split(".")
    for name in sections:
        place = place[name]
    assert place[last] != value
    place[last] = value
    cells = [line.cells(check(params, Params, "params")) for params in (before, after)]
    work = [{cell.name: (cell.request_json(), cell.seed) for cell in one} for one in cells]
    found = {name for name in work[0] if work[0][name] != work[1][name]}
    for cell in cells[0]:  # in the order of the line
        if found & set(cell.after):
            found.add(cell.name)
    return found


def by_dvc(stages, key):
    found = {name for name, (params, _) in stages.items() if any(f"{key}.".startswith(f"{p}.") for p in params)}
    while more := {name for name, (_, waits) in stages.items() if found & set(waits)} - found:
        found |= more
    return found
