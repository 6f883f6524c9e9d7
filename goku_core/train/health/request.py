"""Parameters of `train.watch` (what counts as a bad step) and `train.faults` (how a run is supervised)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class WatchSettings(BaseModel):
    """When a step is bad, and what then. Part of what a run is: leaving a data step out changes the weights.

    The ratios are our choice, below those of a real spike that was published (its gradient norm stood at 10.4 times the median,
    its loss at 2.8) and above what healthy steps reach (2.7 and 2.6 of the sample corpus, seldom and within the usual spread).
    """

    model_config = ConfigDict(extra="forbid")

    norm_ratio: float = Field(
        8.0,
        gt=1,
        description="a gradient norm this many times the running median is a spike (our choice: a real one was seen at "
        "10.4, healthy steps of the sample corpus stay below 3)",
    )
    loss_ratio: float = Field(
        2.5,
        gt=1,
        description="the same for the loss (our choice: it stood at 2.8 in the spike whose norm stood at 10.4)",
    )
    deviations: float = Field(
        10.0, ge=0, description="and a spike lies this many deviations (from the median absolute one) above the median"
    )
    window: int = Field(128, ge=8, description="good steps that medians are taken over")
    least_history: int = Field(32, ge=4, description="good steps before anything finite can be a spike")
    snapshot_every: int = Field(
        100,
        ge=0,
        description="steps between copies of the state in host memory to rewind to; 0: a bad step ends the run",
    )
    rewinds: int = Field(3, ge=0, description="most within `window` data steps; one more and the run has diverged")


class Budgets(BaseModel):
    """Restarts that each class of failure may have."""

    model_config = ConfigDict(extra="forbid")

    crash: int = Field(5, ge=0, description="a rank raised, or died of a signal")
    hang: int = Field(3, ge=0, description="no rank got on")
    preemption: int = Field(100, ge=0, description="ranks were asked to leave, the launcher was not")
    node_bad: int = Field(2, ge=0, description="a node failed its self-check or went away")
    data_bad: int = Field(0, ge=0, description="too many samples cannot be read: the same again on every restart")
    diverged: int = Field(0, ge=0, description="rewinding did not help: the same again on every restart")


class FaultSettings(BaseModel):
    """How ranks are supervised. No part of a fingerprint: none of it changes a result."""

    model_config = ConfigDict(extra="forbid")

    look_seconds: float = Field(0.25, gt=0, description="between two looks of the launcher at its ranks' heartbeats, s")
    hang_factor: float = Field(10.0, gt=1, description="no progress for this many median steps is a hang")
    hang_floor_seconds: float = Field(20.0, gt=0, description="but never less than this, s")
    start_seconds: float = Field(900.0, gt=0, description="a rank may take to import, connect and load, s")
    first_step_seconds: float = Field(
        1800.0, gt=0, description="a phase of the first step may take, compilation included, s"
    )
    data_seconds: float = Field(120.0, gt=0, description="waiting for data may take, s")
    checkpoint_seconds: float = Field(900.0, gt=0, description="saving may take, s")
    grace_seconds: float = Field(30.0, gt=0, description="from SIGTERM until ranks are killed, s; they save within it")
    budgets: Budgets = Field(
        default_factory=Budgets,
        description="restarts by class of failure for as long as no new checkpoint appears; one that does refills them all",
    )
    identical: int = Field(3, ge=1, description="times the same failure (class, step, message) may come in a row")
    backoff_seconds: float = Field(1.0, ge=0, description="before a restart, s; doubles while nothing new is saved")
    backoff_most_seconds: float = Field(120.0, ge=0, description="but never more than this, s")
    self_check: bool = Field(True, description="examine the node before the start and after a failure")
    straggler_score: float = Field(
        1.5, gt=1, description="a rank is recorded as slow when its own phases take this many times the others' median"
    )
    price_per_gpu_hour: float = Field(
        0.0, ge=0, description="of one rank, in any currency; the report's cost counts with it"
    )
