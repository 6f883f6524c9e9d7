"""Applies manifests by kubectl: its contexts, its credentials, its plugins for clouds."""

from __future__ import annotations

import shutil
import subprocess

from goku_core.pipeline.errors import GokuError

MANAGER = "goku-submit"  # owner of the fields, as Kubernetes notes them
REACH_SECONDS = 20


def apply(text: str, context: str | None = None) -> str:
    """What kubectl says it did. Raises `GokuError` where there is no kubectl, no cluster, or the cluster refuses."""
    if (kubectl := shutil.which("kubectl")) is None:
        raise GokuError("kubectl is not on the PATH: install it, or give --dry-run and apply the text elsewhere.")
    chosen = ["--context", context] if context else []
    command = [kubectl, *chosen, "apply", "--server-side", f"--field-manager={MANAGER}"]
    command += [f"--request-timeout={REACH_SECONDS}s", "-f", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GokuError(
            f"kubectl refused, and what it had not yet applied is not there:\n{done.stderr.strip()}\n"
            f"What to do: `kubectl cluster-info` says whether a cluster answers, docs/kubernetes.md what it must have."
        )
    return done.stdout
