"""Evaluation and the VAE: one pod on a spot machine. Taken away, it goes on behind the last record or checkpoint that it wrote."""

from __future__ import annotations

from dataclasses import dataclass

from goku_core.pipeline.errors import GokuError
from goku_core.submit.order import Manifest, Order
from goku_core.submit.pod import MLFLOW, pod

TRIES = 2


@dataclass(frozen=True)
class Place:
    """component: what network policies know the pod by; its account has that name too."""

    component: str
    pool: str
    cpu: str
    gpus: int = 0


# The VAE trains, and a pretrained one is checked, on processors.
PLACES = {"evaluate": Place("judge", "a100-spot", "10", gpus=1), "vae": Place("curator", "cpu-spot", "30")}


def manifests(order: Order) -> list[Manifest]:
    if order.nodes != 1:
        raise GokuError(f"--nodes {order.nodes}: {order.stage} runs on one machine.")
    place = PLACES[order.stage]
    template = pod(
        order, place.component, place.component, f"goku-{place.component}", place.pool,
        command=["goku", "run", *order.cells, "--no-flow"], environment=MLFLOW, cpu=place.cpu, memory="110Gi",
        gpus=place.gpus, spot=True, shared_memory="16Gi", grace_seconds=60,
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
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": place.component, "operator": "In", "values": [2]},
                    },
                ]
            },
            "template": template,
        },
    }
    return [order.parameters(), job]
