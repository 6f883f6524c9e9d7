"""Curation and latents: a Ray cluster that KubeRay makes for the job and takes down after it. Workers are spot machines."""

from __future__ import annotations

from goku_core.pipeline.errors import GokuError
from goku_core.submit.order import Manifest, Order
from goku_core.submit.pod import MLFLOW, WORKSPACE, pod

RAY = "2.60.0"  # of constraints.txt: Ray wants the same everywhere
CELLS = ("curate", "precompute")
PROCESSORS = 8  # of a worker; an operator takes one
GIGABYTES_OF_RAY = 8
RAY_TMP = {"name": "RAY_TMPDIR", "value": "/tmp"}
TRIES = 2


def manifests(order: Order, gigabytes: float) -> list[Manifest]:
    """gigabytes: that one operator may take (`curate.memory_gigabytes`)."""
    if strange := [cell for cell in order.cells if cell not in CELLS]:
        raise GokuError(f"{', '.join(strange)}: on Ray run {' and '.join(CELLS)}.")
    memory = f"{round(PROCESSORS * gigabytes) + GIGABYTES_OF_RAY}Gi"
    start = {"disable-usage-stats": "true"}
    head = pod(
        order,
        "curator",
        "ray",
        "goku-curator",
        "cpu",
        cpu="8",
        memory=memory,
        environment=[*MLFLOW, RAY_TMP],
        restart=True,
    )
    worker = pod(
        order, "curator", "ray", "goku-curator", "cpu-spot", cpu=str(PROCESSORS), memory=memory, environment=[RAY_TMP],
        spot=True, restart=True,
    )  # fmt: skip
    submitter = pod(
        order, "curator", "ray-job-submitter", "goku-curator", "cpu", cpu="500m", memory="1Gi", workspace=False
    )
    job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": order.queued(),
        "spec": {
            "entrypoint": f'bash -c "cd {WORKSPACE} && goku run {" ".join(order.cells)} --no-flow --engine ray"',
            "submissionMode": "K8sJobMode",
            "backoffLimit": TRIES,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "submitterPodTemplate": submitter,
            "rayClusterSpec": {
                "rayVersion": RAY,
                "authOptions": {"mode": "token"},
                # The head drives and must live; decoding beside it would make its time-outs come late.
                "headGroupSpec": {"rayStartParams": {"num-cpus": "0", **start}, "template": head},
                "workerGroupSpecs": [
                    {
                        "groupName": "decoders",
                        "replicas": order.nodes,
                        "minReplicas": order.nodes,
                        "maxReplicas": order.nodes,
                        "rayStartParams": {"num-cpus": str(PROCESSORS), **start},
                        "template": worker,
                    }
                ],
            },
        },
    }
    return [order.parameters(), job]
