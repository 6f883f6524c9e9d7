"""Prefect flows: order, retries, place. No numerics, and importing one imports no torch."""

import os

# The rule for dead runs waits for three of these (flows.automations): also for a run that is started in somebody's shell.
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
