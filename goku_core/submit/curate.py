"""Curation and latents: a Ray cluster that KubeRay makes for the job and takes down after it. Workers are spot machines.

One stage to a job: latents need a VAE, and that is trained on the clips that curation kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from goku_core.pipeline.errors import GokuError
from goku_core.submit.order import Manifest, Order
from goku_core.submit.pod import MLFLOW, WORKSPACE, pod

if TYPE_CHECKING:
    from goku_core.config import Params

RAY = "2.60.0"  # of constraints.txt: Ray wants the same everywhere
CELLS = ("curate", "precompute")
PROCESSORS = 8  # of a worker without a GPU; an operator takes one
PROCESSORS_PER_GPU = 10  # a machine of the pool has 96 and eight GPUs
GIGABYTES_OF_RAY = 8
MOST_GIGABYTES = 110  # of 128 that a machine of cpu-spot has
HEAD_GIGABYTES = 40  # of 64 that a machine of the pool cpu has; it drives, and decodes nothing
RAY_TMP = {"name": "RAY_TMPDIR", "value": "/tmp"}
TRIES = 2


@dataclass(frozen=True)
class Worker:
    """operators: at work side by side. gigabytes: of all of them, and Ray."""

    pool: str
    operators: int
    gigabytes: int
    gpus: int = 0

    @property
    def processors(self) -> int:
        return max(self.operators, PROCESSORS_PER_GPU * self.gpus)


def worker_for(stage: str, params: Params) -> Worker:
    """Curation decodes and measures on processors; latents are made on a GPU unless `precompute.device` says cpu."""
    request = params.curate if stage == "curate" else params.precompute
    each = request.memory_gigabytes
    if stage == "precompute" and params.precompute.device != "cpu":
        side_by_side = params.precompute.workers_per_device
        return Worker("a100-spot", side_by_side, round(side_by_side * each) + GIGABYTES_OF_RAY, gpus=1)
    room = int((MOST_GIGABYTES - GIGABYTES_OF_RAY) // each)
    if room == 0:
        raise GokuError(
            f"{stage}.memory_gigabytes {each:g}: no machine of the pool cpu-spot has more than {MOST_GIGABYTES} GiB."
        )
    side_by_side = min(PROCESSORS, room)
    return Worker("cpu-spot", side_by_side, round(side_by_side * each) + GIGABYTES_OF_RAY)


def manifests(order: Order, worker: Worker) -> list[Manifest]:
    if strange := [cell for cell in order.cells if cell not in CELLS]:
        raise GokuError(f"{', '.join(strange)}: on Ray run {' and '.join(CELLS)}.")
    start = {"disable-usage-stats": "true"}
    head = pod(
        order,
        "curator",
        "ray",
        "goku-curator",
        "cpu",
        cpu="8",
        memory=f"{HEAD_GIGABYTES}Gi",
        environment=[*MLFLOW, RAY_TMP],
        restart=True,
    )
    template = pod(
        order, "curator", "ray", "goku-curator", worker.pool, cpu=str(worker.processors), memory=f"{worker.gigabytes}Gi",
        gpus=worker.gpus, environment=[RAY_TMP], spot=True, restart=True,
    )  # fmt: skip
    has = {"num-cpus": str(worker.processors), "num-gpus": str(worker.gpus)}
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
                        "rayStartParams": {**has, **start},
                        "template": template,
                    }
                ],
            },
        },
    }
    return [order.parameters(), job]
