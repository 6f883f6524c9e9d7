"""Evaluation: one pod with one GPU on a spot machine. Taken away, it goes on behind the last record that it wrote."""

from __future__ import annotations

from goku_core.pipeline.errors import GokuError
from goku_core.submit.order import Manifest, Order
from goku_core.submit.pod import MLFLOW, pod

POOL = "a100-spot"
TRIES = 2


def manifests(order: Order) -> list[Manifest]:
    if order.nodes != 1:
        raise GokuError(f"--nodes {order.nodes}: evaluation runs on one machine.")
    template = pod(
        order, "judge", "judge", "goku-judge", order.pool, command=["goku", "run", *order.cells, "--no-flow"],
        environment=MLFLOW, cpu="10", memory="110Gi", gpus=1, spot=True, shared_memory="16Gi", grace_seconds=60,
    )  # fmt: skip
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": order.queued(),
        "spec": {
            "backoffLimit": TRIES,
            "ttlSecondsAfterFinished": 86400,
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {"action": "FailJob", "onExitCodes": {"containerName": "judge", "operator": "In", "values": [2]}},
                ]
            },
            "template": template,
        },
    }
    return [order.parameters(), job]
