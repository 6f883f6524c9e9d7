"""Training: a TrainJob on the runtime of one kind of GPU (infra/kubernetes/training), with a pod per machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

from goku_core.forecast.phase import Forecast
from goku_core.pipeline.errors import GokuError
from goku_core.submit.order import Manifest, Order
from goku_core.submit.pod import params_mount, params_volume

POOLS = ("a100", "h100", "h200")
PORT = 29400  # of the launchers' store on node 0
# Over what the forecast says of the step at hand and its checkpoint (our choice: neither has been measured on a cluster).
MARGIN = 1.5
# From the last rank's end to the pod's: the launcher looks, tells the other nodes (20 s at most), and the stage ends.
LEAVE_SECONDS = 30
# Hosts leave within it even where all is slow; Kubernetes' own drain waits that long for a pod and no longer.
MOST_GRACE_SECONDS = 3600


def grace_seconds(forecasts: Sequence[Forecast]) -> int:
    """From SIGTERM until ranks may be killed: the longest step, the copy of the state and its way to the disk, with a margin."""
    worst = max(one.step.total + one.saving.stall + one.saving.stored for one in forecasts)
    needed = math.ceil(MARGIN * worst)
    if needed + LEAVE_SECONDS > MOST_GRACE_SECONDS:
        raise GokuError(
            f"to end a step and save takes about {worst:.0f} s: no host waits {needed} s for a pod. Take more nodes, or "
            f"fewer tokens to a step."
        )
    return needed


def manifests(order: Order, grace: int) -> list[Manifest]:
    """grace: seconds, `train.faults.grace_seconds` of the same parameters."""
    if order.pool not in POOLS:
        raise GokuError(
            f"--gpu {order.pool}: node pools for training are {', '.join(POOLS)} (infra/kubernetes/training)."
        )
    endpoint = f"{order.name}-node-0-0.{order.name}:{PORT}"
    patch = {
        "name": "node",
        "template": {
            "spec": {
                "template": {
                    "metadata": {"labels": {"goku.dev/job": order.name, "goku.dev/preset": order.preset}},
                    "spec": {
                        "terminationGracePeriodSeconds": grace + LEAVE_SECONDS,
                        "volumes": [params_volume(order)],
                        "containers": [{"name": "node", "volumeMounts": [params_mount()]}],
                    },
                }
            }
        },
    }
    job = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": order.queued(),
        "spec": {
            "runtimeRef": {
                "apiGroup": "trainer.kubeflow.org",
                "kind": "TrainingRuntime",
                "name": f"goku-{order.pool}",
            },
            "trainer": {
                "image": order.image,
                "numNodes": order.nodes,
                "args": order.cells,
                "env": [{"name": "GOKU_ENDPOINT", "value": endpoint}, {"name": "GOKU_JOB", "value": order.name}],
            },
            "runtimePatches": [
                {
                    "manager": "goku.dev/submit",
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [patch]}}},
                }
            ],
        },
    }
    return [order.parameters(), job]
