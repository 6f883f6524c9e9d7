"""Is a manifest one that a cluster would take? Independent of what wrote it.

Kubernetes' own kinds: the schemas of the version named, as the package kubernetes-validate carries them, unknown fields refused.
TrainJob and TrainingRuntime: the models that Kubeflow Trainer publishes (kubeflow-trainer-api); what they would drop is unknown.
Kueue's and KubeRay's kinds: no package carries their schemas, so what we use of them is written down here, field by field, from
the CRDs of Kueue 0.19 (v1beta2) and KubeRay 1.7 (v1). Anything else is refused, though the CRDs may know it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import kubernetes_validate
from kubeflow_trainer_api import models
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

KUBERNETES = "1.34"
TRAINER = {"TrainJob": models.TrainerV1alpha1TrainJob, "TrainingRuntime": models.TrainerV1alpha1TrainingRuntime}
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FlavorSpec(Strict):
    nodeLabels: dict[str, str] = Field(max_length=8)


class Quota(Strict):
    name: str
    nominalQuota: int | str


class FlavorQuotas(Strict):
    name: Name
    resources: list[Quota] = Field(min_length=1, max_length=64)


class ResourceGroup(Strict):
    coveredResources: list[str] = Field(min_length=1, max_length=64)
    flavors: list[FlavorQuotas] = Field(min_length=1, max_length=64)


class Preemption(Strict):
    withinClusterQueue: Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority"]
    reclaimWithinCohort: Literal["Never", "LowerPriority", "Any"]


class Selector(Strict):
    matchLabels: dict[str, str]


class ClusterQueueSpec(Strict):
    namespaceSelector: Selector
    queueingStrategy: Literal["StrictFIFO", "BestEffortFIFO"]
    preemption: Preemption
    resourceGroups: list[ResourceGroup] = Field(max_length=16)


class LocalQueueSpec(Strict):
    clusterQueue: Name


class AuthOptions(Strict):
    mode: Literal["token", "disabled"]


class HeadGroup(Strict):
    rayStartParams: dict[str, str]
    template: dict[str, Any]


class WorkerGroup(HeadGroup):
    groupName: str = Field(max_length=63)
    replicas: int = Field(ge=0)
    minReplicas: int = Field(ge=0)
    maxReplicas: int = Field(ge=0)


class RayClusterSpec(Strict):
    rayVersion: str
    authOptions: AuthOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]


class RayJobSpec(Strict):
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    backoffLimit: int
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: int
    submitterPodTemplate: dict[str, Any]
    rayClusterSpec: RayClusterSpec


OTHERS: dict[tuple[str, str], type[Strict]] = {
    ("kueue.x-k8s.io/v1beta2", "ResourceFlavor"): FlavorSpec,
    ("kueue.x-k8s.io/v1beta2", "ClusterQueue"): ClusterQueueSpec,
    ("kueue.x-k8s.io/v1beta2", "LocalQueue"): LocalQueueSpec,
    ("ray.io/v1", "RayJob"): RayJobSpec,
}


def problems(manifest: dict[str, Any]) -> list[str]:
    """What a cluster would refuse it for; nothing where it would take it. An unknown kind is a problem."""
    kind = (manifest["apiVersion"], manifest["kind"])
    if kind in OTHERS:
        found = _of_model(OTHERS[kind], manifest["spec"])
    elif manifest["kind"] in TRAINER and manifest["apiVersion"] == "trainer.kubeflow.org/v1alpha1":
        found = _of_trainer(manifest)
    else:
        found = _of_kubernetes(manifest)
    return found + [problem for pod in inner(manifest) for problem in _of_kubernetes(pod)]


def inner(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of other projects' objects that are Kubernetes' own kinds."""
    if manifest["kind"] == "TrainingRuntime":
        for job in manifest["spec"]["template"]["spec"]["replicatedJobs"]:
            yield {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": job["name"]},
                "spec": job["template"]["spec"],
            }
    if manifest["kind"] == "RayJob":
        for template in ray_templates(manifest):
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}


def ray_templates(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [job["spec"]["submitterPodTemplate"], *(group["template"] for group in groups)]


def pod_templates(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """All pod templates in a manifest."""
    if manifest["kind"] == "RayJob":
        return ray_templates(manifest)
    if manifest["kind"] == "TrainingRuntime":
        return [job["spec"]["template"] for job in inner(manifest)]
    if manifest["kind"] in ("Deployment", "StatefulSet", "Job", "DaemonSet"):
        return [manifest["spec"]["template"]]
    return []


def _of_kubernetes(manifest: dict[str, Any]) -> list[str]:
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{manifest['kind']} {'.'.join(map(str, error.path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    return []


def _of_model(model: type[BaseModel], value: Any) -> list[str]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return []


def _of_trainer(manifest: dict[str, Any]) -> list[str]:
    try:
        read = TRAINER[manifest["kind"]].from_dict(manifest)
    except ValidationError as error:
        return [str(error)]
    return list(_dropped(manifest, read.to_dict(), manifest["kind"]))


def _dropped(given: Any, kept: Any, where: str) -> Iterator[str]:
    """Fields that the models do not know: they are gone after reading."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(kept, dict) or key not in kept:
                yield f"{where}.{key}: unknown field"
            else:
                yield from _dropped(value, kept[key], f"{where}.{key}")
    elif isinstance(given, list):
        for number, (one, other) in enumerate(zip(given, kept, strict=False)):
            yield from _dropped(one, other, f"{where}[{number}]")
