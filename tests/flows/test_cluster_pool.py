"""Deployments of prefect.yaml on a Kubernetes pool: what prefect-kubernetes makes of them, and Kubernetes' own schema."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema
import kubernetes_validate
import pytest
import yaml
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = json.loads((ROOT / "infra/prefect/kubernetes.json").read_text())
DECLARED = {
    one["entrypoint"].rpartition(".")[2]: one["work_pool"]
    for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
}
VERSION = "1.34"


async def manifest(variables: dict[str, Any]) -> dict[str, Any]:
    """The job that the worker would send to the cluster."""
    configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(TEMPLATE, variables)
    configuration.prepare_for_flow_run(FlowRun(flow_id=uuid4(), name="line"))
    return json.loads(json.dumps(configuration.job_manifest))


def test_the_server_takes_the_template() -> None:
    WorkPoolCreate(name="gpu", type="kubernetes", base_job_template=TEMPLATE)


@pytest.mark.parametrize("flow", DECLARED)
def test_every_deployment_makes_a_job_that_kubernetes_takes(flow: str) -> None:
    variables = DECLARED[flow]["job_variables"]
    closed = TEMPLATE["variables"] | {"additionalProperties": False}  # a word that the template has not would be lost
    jsonschema.validate(variables, closed)
    job = asyncio.run(manifest(variables))
    pod = job["spec"]["template"]["spec"]
    # prefect-kubernetes demands these two here, where Kubernetes knows none and drops them.
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    kubernetes_validate.validate(job, VERSION, strict=True)
    (container,) = pod["containers"]
    # The image's own entry is `goku`, which knows no `prefect`: the pod names another, that runs what it is given.
    assert (container["command"], container["args"]) == (["with-secrets"], ["prefect", "flow-run", "execute"])
    assert pod["nodeSelector"] == variables["node_selector"]
    assert container["resources"]["limits"]["memory"] == variables["memory"]
    assert (container["resources"]["limits"].get("nvidia.com/gpu", 0) > 0) == (DECLARED[flow]["name"] == "gpu")
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    # An evicted flow pod is scheduled again by Prefect alone: nobody else starts it a second time.
    assert job["spec"]["backoffLimit"] == 0
    said = {one["name"]: one.get("value") for one in container["env"]}
    assert said["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"
    assert job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == "flow"
    assert not [one for one in said if "PASSWORD" in one and said[one] is not None], "a secret is named, never written"


def test_the_folder_of_whoever_registers_does_not_reach_the_pod() -> None:
    variables = DECLARED["train"]["job_variables"] | {"working_dir": "/home/anna/goku"}
    assert "/home/anna" not in json.dumps(job := asyncio.run(manifest(variables)))
    assert job["spec"]["template"]["spec"]["containers"][0]["workingDir"] == "/workspace"
    assert yaml.safe_load((ROOT / "prefect.yaml").read_text())["pull"] == [], "nor as a step of `prefect deploy`"


def test_workers_do_not_make_pools_from_another_template() -> None:
    text = (ROOT / "infra/kubernetes/base/prefect-worker.yaml").read_text()
    for container in yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]:
        assert "--no-create-pool-if-not-found" in container["command"]


def test_a_run_starts_by_prefects_command_whatever_the_image_starts_with() -> None:
    """Kubernetes puts `args` behind the image's own entrypoint, and that is `goku`, which has no command `prefect`."""
    (container,) = asyncio.run(manifest({}))["spec"]["template"]["spec"]["containers"]
    assert container["args"][0] == "prefect"
    (program,) = container["command"]
    image = (ROOT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["goku"]' in image and f"/usr/local/bin/{program}\n" in image
    assert (ROOT / "infra" / program).read_text().rstrip().endswith('exec "$@"')


def test_what_waits_for_gpus_tolerates_their_nodes_and_spot_is_never_for_training() -> None:
    for flow, pool in DECLARED.items():
        tolerated = {one["key"] for one in pool["job_variables"].get("tolerations", [])}
        assert ("nvidia.com/gpu" in tolerated) == (pool["name"] == "gpu"), flow
        if pool["work_queue_name"] == "training":
            assert "goku.dev/spot" not in tolerated, flow
            assert pool["job_variables"]["grace_seconds"] >= 600, "a checkpoint must fit into the grace period"


def test_wrong_words_are_refused() -> None:
    closed = TEMPLATE["variables"] | {"additionalProperties": False}
    for wrong in ({"gpu": 1}, {"gpus": -1}, {"backoff_limit": 3}, {"memory": 4}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, closed)
