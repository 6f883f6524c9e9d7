"""`goku submit`: what each preset would have a cluster do. Nothing is applied to one here."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_schemas import pod_templates, problems
from typer.testing import CliRunner

from goku_core import config
from goku_core.cli import app
from goku_core.params_text import with_value
from goku_core.pipeline.errors import GokuError
from goku_core.submit import train as training
from goku_core.submit.apply import apply
from goku_core.submit.order import MOST_BYTES, Order

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "registry.example/goku@sha256:" + "ab" * 32
# preset -> machines that its training is meant for, or fits
NODES = {"goku-8b": 16, "goku-2b": 8, "pilot-1b": 1, "nano": 1, "smoke": 1}


@cache
def shown(*arguments: str) -> tuple[list[dict[str, Any]], str, str]:
    """Manifests, their text, and the summary."""
    done = CliRunner().invoke(app, ["submit", *arguments, "--image", IMAGE, "--dry-run"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return list(yaml.safe_load_all(done.stdout)), done.stdout, done.stderr


def of_preset(name: str) -> tuple[list[dict[str, Any]], str, str]:
    return shown("train", "--preset", name, "--nodes", str(NODES[name]))


def patch_of(job: dict[str, Any]) -> dict[str, Any]:
    (patch,) = job["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert node["name"] == "node"
    return node["template"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("preset", NODES)
def test_a_training_of_each_preset(preset: str) -> None:
    (parameters, job), _, summary = of_preset(preset)
    assert problems(parameters) == [] and problems(job) == []
    name = job["metadata"]["name"]
    assert parameters["metadata"]["name"] == name and parameters["immutable"] is True
    # names that Kubernetes makes of it: <job>-node-0-<pod>, 63 characters at most
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) and len(f"{name}-node-0-999") <= 63
    trainer = job["spec"]["trainer"]
    assert trainer["numNodes"] == NODES[preset] and trainer["image"] == IMAGE and "command" not in trainer
    endpoint = {entry["name"]: entry["value"] for entry in trainer["env"]}["GOKU_ENDPOINT"]
    assert endpoint == f"{name}-node-0-0.{name}:29400"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    assert job["spec"]["runtimeRef"]["name"] == "goku-h100" and "GPU-hours" in summary

    text = parameters["data"]["params.yaml"]
    told = config.checked(yaml.safe_load(text), preset)
    assert (told.train.parallel.nodes, told.train.parallel.ranks_per_node) == (NODES[preset], 8)
    assert trainer["args"] == [f"train@{phase}" for phase in told.train.phases]
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert job["metadata"]["annotations"]["goku.dev/params-sha256"] == digest
    # all else is the preset's own
    given = yaml.safe_load((ROOT / f"params/{preset}.yaml").read_text())
    changed = yaml.safe_load(text)
    for place in (given["train"], changed["train"]):
        for section, key in (("parallel", "nodes"), ("parallel", "ranks_per_node"), ("faults", "grace_seconds")):
            place[section].pop(key)
    assert given == changed


@pytest.mark.parametrize("preset", NODES)
def test_there_is_time_to_save(preset: str) -> None:
    """Step, copy and disk fit between SIGTERM and the end of the ranks, and the launcher's own end fits behind."""
    from goku_core.cli_forecast import Asked, forecasts
    from goku_core.train.launch.loop import RESULT_SECONDS
    from goku_core.train.launch.supervisor import DEATH_SECONDS

    (parameters, job), _, _ = of_preset(preset)
    grace = yaml.safe_load(parameters["data"]["params.yaml"])["train"]["faults"]["grace_seconds"]
    waits = patch_of(job)["terminationGracePeriodSeconds"]
    for one in forecasts(Asked(NODES[preset] * 8, "h100", preset), ROOT):
        assert one.step.total + one.saving.stall + one.saving.stored <= grace, one.phase
    assert grace + DEATH_SECONDS + RESULT_SECONDS <= waits <= training.MOST_GRACE_SECONDS


@pytest.mark.parametrize("preset", ["goku-8b", "goku-2b", "pilot-1b"])
def test_the_presets_own_time_to_save(preset: str) -> None:
    """On as many machines as the preset says, without `goku submit`."""
    from goku_core.cli_forecast import Asked, forecasts

    told = config.load_params(ROOT / f"params/{preset}.yaml").train
    found = forecasts(Asked(told.parallel.world, "h100", preset), ROOT)
    assert training.grace_seconds(found) <= told.faults.grace_seconds


def test_the_parameters_are_mounted_where_they_are_read() -> None:
    (parameters, job), _, _ = of_preset("nano")
    patch = patch_of(job)
    (mount,) = patch["containers"][0]["volumeMounts"]
    runtime = yaml.safe_load((ROOT / "infra/kubernetes/training/runtime/runtime.yaml").read_text())
    (template,) = pod_templates(runtime)
    (container,) = template["spec"]["containers"]
    assert container["name"] == patch["containers"][0]["name"] == "node"
    assert mount["mountPath"] == f"{container['workingDir']}/params.yaml" and mount["subPath"] in parameters["data"]
    assert patch["volumes"] == [{"name": mount["name"], "configMap": {"name": parameters["metadata"]["name"]}}]
    assert mount["name"] not in {volume["name"] for volume in template["spec"]["volumes"]}


def test_equal_work_has_an_equal_name_and_other_work_another() -> None:
    arguments = ("train", "--preset", "nano", "--nodes", "1")
    assert shown(*arguments)[1] == shown(*arguments, "--gpu", "h100")[1]
    others = [(), ("--phase", "joint_low"), ("--gpu", "h200"), ("--queue", "night")]
    names = {shown(*arguments, *other)[0][1]["metadata"]["name"] for other in others}
    assert len(names) == len(others)


def test_one_phase() -> None:
    (_, job), _, _ = shown("train", "--preset", "nano", "--phase", "joint_low")
    assert job["spec"]["trainer"]["args"] == ["train@joint_low"]


def test_the_difference_between_two_presets() -> None:
    arguments = ["submit", "train", "--preset", "nano", "--nodes", "1", "--image", IMAGE, "--diff"]
    told = CliRunner().invoke(app, [*arguments, "smoke"], catch_exceptions=False).stdout
    before, after = of_preset("nano")[1], of_preset("smoke")[1]
    removed = [line[1:] for line in told.splitlines()[2:] if line.startswith("-")]
    added = [line[1:] for line in told.splitlines()[2:] if line.startswith("+")]
    assert "  name: " + of_preset("smoke")[0][1]["metadata"]["name"] in added and removed
    assert set(removed) <= set(before.splitlines()) and set(added) <= set(after.splitlines())
    assert CliRunner().invoke(app, [*arguments, "nano"], catch_exceptions=False).stdout == ""


@pytest.mark.parametrize(
    ("stage", "kind", "pool"),
    [
        ("curate", "RayJob", "cpu-spot"),
        ("vae", "Job", "cpu-spot"),
        ("precompute", "RayJob", "a100-spot"),
        ("evaluate", "Job", "a100-spot"),
    ],
)
def test_work_for_spot_machines(stage: str, kind: str, pool: str) -> None:
    (parameters, job), _, _ = shown(stage, "--preset", "goku-8b")
    assert problems(parameters) == [] and problems(job) == [] and job["kind"] == kind
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "spot"
    templates = pod_templates(job)
    assert pool in {template["spec"]["nodeSelector"]["goku.dev/pool"] for template in templates}
    for template in templates:
        spec = template["spec"]
        spot = spec["nodeSelector"]["goku.dev/pool"].endswith("-spot")
        assert spot == any(toleration["key"] == "goku.dev/spot" for toleration in spec["tolerations"])
        assert spec["automountServiceAccountToken"] is False and spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] and own["capabilities"] == {"drop": ["ALL"]}
            assert own["allowPrivilegeEscalation"] is False and container["image"] == IMAGE


def decoders(job: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """What Ray is told that a worker has, and the worker's container."""
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    return group["rayStartParams"], container


def test_each_job_does_one_stage_and_finds_what_it_reads() -> None:
    """On a new workspace: a VAE is trained of curated clips, so latents cannot come in the job that curates."""
    for stage in ("curate", "vae", "precompute", "evaluate"):
        (_, job), _, _ = shown(stage, "--preset", "nano")
        assert job["metadata"]["annotations"]["goku.dev/cells"] == stage
        told = job["spec"].get("entrypoint") or " ".join(pod_templates(job)[0]["spec"]["containers"][0]["command"])
        assert f"goku run {stage} --no-flow" in told


def test_latents_have_a_gpu_and_the_memory_that_they_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (_, job), _, _ = shown("precompute", "--preset", "goku-8b", "--nodes", "4")
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    told, container = decoders(job)
    assert group["replicas"] == 4 and told["num-gpus"] == "1" and int(told["num-cpus"]) >= 1
    asked = container["resources"]["limits"]
    assert asked["nvidia.com/gpu"] == "1" and asked["memory"] == "40Gi"  # precompute.memory_gigabytes 32, and Ray's 8
    assert "nvidia.com/gpu" in {one["key"] for one in group["template"]["spec"]["tolerations"]}
    (head,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert "nvidia.com/gpu" not in head["resources"]["limits"]

    text = (ROOT / "params/goku-8b.yaml").read_text()
    (tmp_path / "params.yaml").write_text(with_value(text, "precompute.workers_per_device", 3))
    monkeypatch.chdir(tmp_path)
    (_, job), _, _ = shown("precompute")
    assert decoders(job)[1]["resources"]["limits"]["memory"] == "104Gi"

    (tmp_path / "params.yaml").write_text(with_value(text, "precompute.device", "cpu"))
    shown.cache_clear()
    (_, job), _, _ = shown("precompute")
    told, container = decoders(job)
    # no machine of that pool has 8 x 32 GiB: fewer clips at a time
    assert told["num-cpus"] == "3" and container["resources"]["limits"] == {"memory": "104Gi"}
    assert pod_templates(job)[-1]["spec"]["nodeSelector"] == {"goku.dev/pool": "cpu-spot"}


def test_a_curation_never_asks_for_more_than_its_machines_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head's machine has 64 GiB (infra/terraform/pools.json: m7i.4xlarge), a worker's 128."""
    text = (ROOT / "params/nano.yaml").read_text()
    (tmp_path / "params.yaml").write_text(with_value(text, "curate.memory_gigabytes", 16))
    monkeypatch.chdir(tmp_path)
    shown.cache_clear()
    (_, job), _, _ = shown("curate")
    told, container = decoders(job)
    assert told["num-cpus"] == "6" and container["resources"]["limits"]["memory"] == "104Gi"
    (head,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert head["resources"]["limits"]["memory"] == "40Gi"


def test_latents_without_a_vae_are_refused_where_the_clips_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the workspace itself it can be known; elsewhere the workspace is the cluster's, and its own."""
    shutil.copy(ROOT / "params/nano.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    shown.cache_clear()
    shown("precompute")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/clips.parquet").write_bytes(b"clips")
    with pytest.raises(GokuError, match="goku submit vae"):
        shown("precompute", "--nodes", "2")
    # one that is there, but not made of these clips
    (tmp_path / "models/vae").mkdir(parents=True)
    with pytest.raises(GokuError, match="goku submit vae"):
        shown("precompute", "--nodes", "3")
    shown("precompute", "--preset", "nano")


def test_rays_version_is_the_installed_one() -> None:
    from goku_core.submit.curate import RAY

    assert f"ray=={RAY}" in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["train", "--preset", "goku-8b", "--nodes", "1", "--gpu", "a100", "--phase", "joint_high"],
            "no host waits",
        ),
        (["train", "--preset", "nano", "--phase", "joint_lov"], "no such phase"),
        (["train", "--preset", "nano", "--image", "registry.example/goku:latest"], "by its digest"),
        (["train", "--preset", "goku-9b"], "goku-8b"),
        (["curate", "--preset", "nano", "--phase", "joint_low"], "only a training has phases"),
        (["evaluate", "--preset", "nano", "--nodes", "2"], "one machine"),
        (["vae", "--preset", "nano", "--nodes", "2"], "one machine"),
        (["train", "--preset", "nano", "--namespace", "Goku;rm"], "lower-case"),
        (["train", "--preset", "nano"], "name the image"),
    ],
)
def test_what_is_refused(arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOKU_IMAGE", raising=False)
    with pytest.raises(GokuError, match=says):
        CliRunner().invoke(app, ["submit", *arguments], catch_exceptions=False)


def test_a_training_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workspace's own parameters, with everything kept for the backward pass: more than 80 GB."""
    text = (ROOT / "params/goku-8b.yaml").read_text()
    (tmp_path / "params.yaml").write_text(with_value(text, "train.parallel.recomputation", "none"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GokuError, match="least change that fits: recomputation"):
        CliRunner().invoke(
            app, ["submit", "train", "--nodes", "16", "--phase", "joint_high", "--dry-run"], catch_exceptions=False
        )


def test_parameters_that_are_too_large_are_refused() -> None:
    with pytest.raises(GokuError, match="ConfigMap"):
        Order("train", "params", "#" * (MOST_BYTES + 1), ["train@a"], 1, "h100", "training")


def test_what_is_applied_is_what_was_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in kubectl's place notes what it is given: bytes and arguments. One that refuses is an error in words."""
    fake = tmp_path / "kubectl"
    fake.write_text(
        f'#!{sys.executable}\nimport sys; open("{tmp_path}/got", "w").write(sys.stdin.read())\nprint(*sys.argv[1:])\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    _, text, _ = of_preset("nano")
    done = CliRunner().invoke(
        app, ["submit", "train", "--preset", "nano", "--nodes", "1", "--image", IMAGE, "--context", "mine"]
    )
    assert (tmp_path / "got").read_text() == text
    assert "--context mine apply --server-side --field-manager=goku-submit" in done.stdout
    fake.write_text(f'#!{sys.executable}\nimport sys; sys.exit("connection refused")\n')
    with pytest.raises(GokuError, match="connection refused"):
        apply(text)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(GokuError, match="kubectl is not on the PATH"):
        apply(text)


def test_without_a_cluster_kubectl_says_so(tmp_path: Path) -> None:
    """The real program, where there is one, with nobody to talk to."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    (tmp_path / "config").write_text("apiVersion: v1\nkind: Config\n")
    command = [sys.executable, "-m", "goku_core.cli", "submit", "curate", "--preset", "nano", "--image", IMAGE]
    environment = os.environ | {"KUBECONFIG": str(tmp_path / "config"), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 2 and "kubectl refused" in done.stderr and "Traceback" not in done.stderr
