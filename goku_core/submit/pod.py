"""What the pods of every job have alike: no rights, no way to change their own image, the workspace, and its parameters."""

from __future__ import annotations

from collections.abc import Sequence

from goku_core.submit.order import Manifest, Order

WORKSPACE = "/workspace"
# Of the image's user (Dockerfile), and owner of the workspace's files.
USER = 1000
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
GPU = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
SPOT = {"key": "goku.dev/spot", "operator": "Exists", "effect": "NoSchedule"}
MLFLOW = [
    {"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow.goku.svc:5000"},
    *(
        {"name": f"MLFLOW_TRACKING_{key.upper()}", "valueFrom": {"secretKeyRef": {"name": "goku-mlflow", "key": key}}}
        for key in ("username", "password")
    ),
]


def params_volume(order: Order) -> Manifest:
    return {"name": "params", "configMap": {"name": order.name}}


def params_mount() -> Manifest:
    """In place of the workspace's own file, for this job alone."""
    return {"name": "params", "mountPath": f"{WORKSPACE}/params.yaml", "subPath": "params.yaml", "readOnly": True}


def pod(
    order: Order,
    component: str,
    container: str,
    account: str,
    pool: str,
    *,
    command: Sequence[str] = (),
    environment: Sequence[Manifest] = (),
    cpu: str,
    memory: str,
    gpus: int = 0,
    spot: bool = False,
    shared_memory: str = "2Gi",
    grace_seconds: int = 60,
    restart: bool = False,
    workspace: bool = True,
) -> Manifest:
    """A pod template of one container.

    component  what network policies and disruption budgets know it by
    pool       of nodes, as infra/terraform/nodes.tf labels them
    restart    leave it to the kubelet (Ray's pods are the operator's to restart)
    """
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}]
    volumes: list[Manifest] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": "20Gi"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}},
    ]
    if workspace:
        mounts = [{"name": "workspace", "mountPath": WORKSPACE}, params_mount(), *mounts]
        claim = {"name": "workspace", "persistentVolumeClaim": {"claimName": "goku-workspace"}}
        volumes = [claim, params_volume(order), *volumes]
    share = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    made: Manifest = {
        "name": container,
        "image": order.image,
        "resources": {"requests": {"cpu": cpu, "memory": memory, **share}, "limits": {"memory": memory, **share}},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": mounts,
        "env": [{"name": "HOME", "value": "/tmp"}, {"name": "GOKU_JOB", "value": order.name}, *environment],
    }
    if workspace:
        made["workingDir"] = WORKSPACE
    if command:
        made["command"] = list(command)
    spec: Manifest = {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "nodeSelector": {"goku.dev/pool": pool},
        "tolerations": [*([GPU] if gpus else []), *([SPOT] if spot else [])],
        "terminationGracePeriodSeconds": grace_seconds,
        "containers": [made],
        "volumes": volumes,
    }
    if not restart:
        spec["restartPolicy"] = "Never"
    labels = {
        "app.kubernetes.io/part-of": "goku",
        "app.kubernetes.io/name": f"goku-{order.stage}",
        "app.kubernetes.io/component": component,
        "goku.dev/job": order.name,
    }
    return {"metadata": {"labels": labels}, "spec": spec}
