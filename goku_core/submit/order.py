"""One job: its name, what it is labelled with, and the ConfigMap with its parameters."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from goku_core.pipeline.errors import GokuError

Manifest = dict[str, Any]

GPUS = 8  # of a machine, in every pool (infra/terraform/nodes.tf)
# Kubernetes takes objects of 1 MiB (etcd's 1.5 MiB less what the API server adds); a ConfigMap is one object.
MOST_BYTES = 1_000_000
NO_IMAGE = "registry.example/goku@sha256:" + "0" * 64  # what is shown where no image has been named
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._:/-]*@sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,40}[a-z0-9])?")


@dataclass(frozen=True)
class Order:
    """What is asked for.

    stage      train, curate or evaluate
    preset     where the parameters are from: a preset's name, or "params" for the workspace's own
    text       params.yaml as the pods see it
    cells      what is run, in order
    nodes      machines
    pool       node pool: a100, h100, h200 for training
    image      REGISTRY/NAME@sha256:DIGEST
    commit     of the workspace, and whether it was changed since
    requests   digest by cell of what its fingerprint says before its inputs are there
    """

    stage: str
    preset: str
    text: str
    cells: list[str]
    nodes: int
    pool: str
    queue: str
    image: str = NO_IMAGE
    namespace: str = "goku"
    commit: str = ""
    requests: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _IMAGE.fullmatch(self.image):
            raise GokuError(
                f"--image {self.image}: name the image by its digest, REGISTRY/NAME@sha256:(64 hexadecimal digits); "
                f"a tag may be another image tomorrow (docker buildx imagetools inspect NAME:TAG tells it)."
            )
        if not _NAME.fullmatch(self.namespace):
            raise GokuError(f"--namespace {self.namespace}: lower-case letters, digits and dashes, 42 at most.")
        if (size := len(self.text.encode())) > MOST_BYTES:
            raise GokuError(
                f"the parameters have {size:,} bytes, and a ConfigMap holds {MOST_BYTES:,}: shorten their comments."
            )

    @property
    def params_digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """Equal for equal work: to submit it twice changes nothing."""
        facts = [self.stage, self.text, self.cells, self.nodes, self.pool, self.queue, self.image]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        return f"{self.stage}-{self.preset}-{digest[:8]}"

    def metadata(self, **annotations: str) -> Manifest:
        labels = {
            "app.kubernetes.io/part-of": "goku",
            "app.kubernetes.io/name": f"goku-{self.stage}",
            "goku.dev/preset": self.preset,
        }
        told = {
            "goku.dev/cells": ",".join(self.cells),
            "goku.dev/params-sha256": self.params_digest,
            "goku.dev/commit": self.commit or "unknown",
            "goku.dev/requests": json.dumps(dict(self.requests), sort_keys=True),
        }
        return {
            "name": self.name,
            "namespace": self.namespace,
            "labels": labels,
            "annotations": {key: value for key, value in (told | annotations).items() if value},
        }

    def queued(self, **annotations: str) -> Manifest:
        """Metadata of the object that Kueue lets start."""
        facts = self.metadata(**annotations)
        return facts | {"labels": facts["labels"] | {"kueue.x-k8s.io/queue-name": self.queue}}

    def parameters(self) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self.metadata(),
            "immutable": True,
            "data": {"params.yaml": self.text},
        }
