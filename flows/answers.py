"""A run that waited for a person's word and was answered begins anew: what it does first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from prefect.context import FlowRunContext
from prefect.input import keyset_from_base_key, read_flow_run_input

from goku_core.pipeline.errors import GokuError
from goku_core.promote import ledger

KEY = "entry-"  # and the number of the awaiting entry
COMMAND = [sys.executable, "-m", "goku_core.cli", "promote"]


def answered(workspace: Path) -> bool:
    """First in a flow: has this run been put aside, and answered? Then the ledger gets the answer, and the run is over.

    The answer is about the entry that was asked about, whatever params.yaml and reports/ hold by now. Raises `GokuError`
    where the ledger refuses it: the evidence or the champion has changed since, or the candidate was judged again.
    """
    context = FlowRunContext.get()
    keys = context.flow_run.empirical_policy.pause_keys if context and context.flow_run else None
    entries = ledger.read(workspace) if keys else []
    for number in sorted(int(key.removeprefix(KEY)) for key in keys or () if key.startswith(KEY)):
        answer = read_flow_run_input(keyset_from_base_key(f"suspended-{KEY}{number}")["response"])
        if not answer or any(entry.answers == number for entry in entries):
            continue
        version = str(entries[number - 1].version)
        if entries[number - 1] not in ledger.awaiting(entries):
            raise GokuError(f"version {version}: decided or judged again since it was asked about; answer that.")
        word = "--approve" if answer["approve"] else "--decline"
        command = [*COMMAND, word, version, "--by", answer["by"], "--because", answer["because"]]
        if subprocess.run(command, cwd=workspace, check=False).returncode:
            raise GokuError(f"version {version}: the ledger did not take the answer, see the message above.")
        return True
    return False
