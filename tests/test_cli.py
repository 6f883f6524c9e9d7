"""The command line, over the tiny line of tests/workspaces: exit codes, JSON, messages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_line import bodies, new_workspace, set_params

from goku_core.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "tests/workspaces"


def call(program, workspace, *arguments, **environment):
    command = [sys.executable, *program, *arguments]
    return subprocess.run(
        command, cwd=workspace, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def tiny(workspace, *arguments, **environment):
    return call([TINY / "tiny_goku.py"], workspace, *arguments, **environment)


def goku(workspace, *arguments, **environment):
    return call(["-m", "goku_core.cli"], workspace, *arguments, **environment)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A workspace in which everything has run once, and what that run printed."""
    workspace = new_workspace(tmp_path_factory.mktemp("cli") / "w")
    ran = tiny(workspace, "run", "--no-flow", "--json")
    assert ran.returncode == 0, ran.stderr
    return workspace, json.loads(ran.stdout)


def test_run_prints_json_and_keeps_progress_off_it(done):
    _, outcomes = done
    assert [o["cell"] for o in outcomes] == ["split", "join", "train@one", "train@two", "close"]
    assert {o["status"] for o in outcomes} == {"ran"}


def test_run_of_finished_work_starts_no_server(done):
    workspace, outcomes = done
    again = tiny(workspace, "run")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("already done") == 5
    told = tiny(workspace, "run", "--json")
    assert json.loads(told.stdout) == [outcome | {"status": "already-done"} for outcome in outcomes]
    assert not (workspace / ".goku/prefect").exists()


def test_plan_and_its_exit_code(done):
    workspace, _ = done
    assert tiny(workspace, "plan", "--check").returncode == 0
    planned = json.loads(tiny(workspace, "plan", "--json").stdout)
    assert {entry["state"] for entry in planned["cells"]} == {"done"}
    set_params(workspace, close="other")
    changed = tiny(workspace, "plan", "--check")
    set_params(workspace)
    assert changed.returncode == 1
    assert "close.text: e -> other" in changed.stdout


def test_status_and_lineage(done):
    workspace, outcomes = done
    facts = json.loads(tiny(workspace, "status", "--json").stdout)
    assert [fact["fingerprint"] for fact in facts] == [o["fingerprint"] for o in outcomes]
    assert facts[0]["outputs"]["data/parts"]["files"] == 5
    assert "data/parts (5 files" in tiny(workspace, "status", COLUMNS="200").stdout
    chain = json.loads(tiny(workspace, "lineage", "models/one.txt", "--json").stdout)
    assert [node["cell"] for node in chain["made_from"]] == ["join", "split"]
    assert [node["cell"] for node in chain["made_into"]] == ["train@two", "close"]
    text = tiny(workspace, "lineage", outcomes[1]["fingerprint"][:10]).stdout
    assert "made from:" in text and "writes data/joined.txt" in text


def test_bad_input_is_one_message_and_exit_code_2(done):
    workspace, _ = done
    for arguments, says in (
        (["run", "trian", "--no-flow"], "There is no cell 'trian'"),
        (["run", "--no-flow", "--driver", "cron"], "must be direct, dvc or prefect"),
        (["lineage", "nothing"], "Nothing here is named"),
    ):
        refused = tiny(workspace, *arguments)
        assert refused.returncode == 2
        assert says in refused.stderr and "Traceback" not in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_failed_work_is_exit_code_1_with_what_to_do(tmp_path):
    workspace = new_workspace(tmp_path / "w")
    failed = tiny(workspace, "run", "split", "join", "--no-flow", "--json", TINY_FAIL="data/joined.txt")
    assert failed.returncode == 1
    assert "join failed: RuntimeError: the disk is on fire" in failed.stderr
    assert "What to do" in failed.stderr and "Traceback" not in failed.stderr
    ran, told = json.loads(failed.stdout)
    assert (ran["cell"], told["status"], told["retriable"]) == ("split", "failed", True)
    assert bodies(workspace) == ["data/parts", "data/joined.txt"]


def test_a_bad_params_file_is_told_before_any_work(tmp_path):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text().replace("min_seconds: 4", "min_second: 4"))
    refused = goku(tmp_path, "run", "--no-flow")
    assert refused.returncode == 2
    assert refused.stderr.startswith("params.yaml: curate.gate.min_second: unknown key. Did you mean")
    assert not (tmp_path / "data").exists()


def test_params_use_and_show(tmp_path):
    assert goku(tmp_path, "params", "use", "smoke").returncode == 0
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params/smoke.yaml").read_text()
    shown = goku(tmp_path, "params", "show")
    assert "# least length of a raw video" in shown.stdout
    assert re.search(r"#   2b +2\.0[01][0-9]e9  text 2048 wide\n", shown.stdout)
    assert re.search(r"#   8b +8\.0[0-9]+e9", shown.stdout) and "<- in use" in shown.stdout
    (tmp_path / "again").mkdir()
    (tmp_path / "again/params.yaml").write_text(shown.stdout)
    assert json.loads(goku(tmp_path, "params", "show", "--json").stdout) == json.loads(
        goku(tmp_path / "again", "params", "show", "--json").stdout
    )
    with (tmp_path / "params.yaml").open("a") as file:
        file.write("# my notes\n")
    refused = goku(tmp_path, "params", "use", "nano")
    assert (refused.returncode, "--force" in refused.stderr) == (2, True)
    assert goku(tmp_path, "params", "use", "nano", "--force").returncode == 0
    assert "Did you mean nano?" in goku(tmp_path, "params", "use", "nanno").stderr


def test_doctor(tmp_path):
    found = goku(tmp_path, "doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(found.stdout)}
    assert found.returncode == int(any(f["state"] == "bad" for f in findings.values()))
    assert findings["codec h264"]["found"] == "decode, encode"
    assert {"Python", "torch", "GPU", "flash-attn", "RapidOCR", "disk", "memory", "port 4200"} <= set(findings)
    assert all(f["remedy"] for f in findings.values() if f["state"] != "ok")
    assert findings["content credentials"]["state"] == "missing"
    key = goku(tmp_path, "doctor", "--json", GOKU_C2PA_KEY="nowhere.pem", GOKU_C2PA_CERTIFICATE="nowhere.pem")
    told = next(f for f in json.loads(key.stdout) if f["what"] == "content credentials")
    assert (key.returncode, told["state"]) == (1, "bad") and "nowhere.pem cannot be read" in told["remedy"]


def commands():
    """Every command with its subcommands."""
    import typer

    from goku_core.cli import app

    group = typer.main.get_command(app)
    for name in COMMANDS:
        command = group.get_command(None, name)
        subcommands = getattr(command, "commands", None)
        for inner, one in (subcommands or {"": command}).items():
            yield f"{name} {inner}".strip(), one


def test_every_command_helps_with_an_example():
    silent = [name for name, command in commands() if "Example" not in (command.help or "")]
    assert not silent


def test_every_command_a_program_may_read_has_json():
    spoken = {name for name, one in commands() if any("--json" in parameter.opts for parameter in one.params)}
    assert {
        "run",
        "plan",
        "status",
        "lineage",
        "doctor",
        "report",
        "params show",
        "generate",
        "inspect",
        "promote",
    } <= spoken
