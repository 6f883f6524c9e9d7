"""The search: Optuna proposes, the pipeline trains, the validation loss decides. Killed anywhere, it goes on.

A trial whose process died is marked failed and its parameters are tried again first: the training continues from its own
checkpoint, as its fingerprint is the same. Proposals are a function of the study's seed, the trial's number and the trials
before it.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from goku_core.pipeline.commit import Workspace
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.executor import OpenTracker
from goku_core.pipeline.files import digest_json, lock, lock_if_free
from goku_core.pipeline.progress import console
from goku_core.tune import place, trial
from goku_core.tune.request import Range, TuneRequest

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from goku_core.config import Params

YOUNG_SECONDS = 60
SAME_FAILURE = 3  # trials in a row that fail end the search: it is not the parameters


class Search:
    """A study of one workspace.

    name          of the study
    open_tracker  makes the tracker of each training
    parent        MLflow run that trials are children of; "" for none
    """

    def __init__(self, name: str, workspace: Path, params: Params, open_tracker: OpenTracker, parent: str = "") -> None:
        """Raises `GokuError` where there is nothing to search, nothing to search by, or a study of other parameters."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.name, self.workspace, self.params = name, workspace.resolve(), params
        self.request: TuneRequest = params.tune
        self.phase = self.request.phase or next(iter(params.train.phases))
        self.open_tracker, self.parent = open_tracker, parent
        self.folder = self.workspace / ".goku" / "tune" / name
        self._refuse()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.study = self._open()

    def _refuse(self) -> None:
        if not self.request.space:
            raise GokuError("tune.space is empty. Say in params.yaml what varies: docs/training.md shows how.")
        if self.params.train.validation.share == 0:
            raise GokuError("tune compares validation losses: set train.validation.share above 0, for example to 0.05.")
        # Both ends of each key: what params.yaml would refuse, or what does not reach the phase, is told now.
        for key, one in self.request.space.items():
            ends = [place.work(self.params, {key: value}, self.phase) for value in _ends(one)]
            if not any(end.other for end in ends):
                raise GokuError(
                    f"tune.space: {key} is no part of what train@{self.phase} depends on: all trials would be one."
                )

    def _open(self) -> Study:
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if self.request.pruner == "median":
            steps = int(self.request.warmup * self.params.train.phases[self.phase].steps)
            pruner = optuna.pruners.MedianPruner(n_startup_trials=self.request.startup_trials, n_warmup_steps=steps)
        storage = storage_of(self.request, self.folder)
        study = optuna.create_study(study_name=self.name, storage=storage, pruner=pruner, load_if_exists=True)
        about = self._about()
        begun = study.user_attrs.setdefault("about", about)
        if begun != about:
            raise GokuError(
                f"the study {self.name} was begun with other parameters or other data: its losses do not compare with new ones. "
                "Choose another --name, or change params.yaml back."
            )
        study.set_user_attr("about", about)
        return study

    def _about(self) -> str:
        """Digest of what all trials share: the parameters that do not vary, and the inputs."""
        fixed = place.work(self.params, {}, self.phase)
        request = fixed.target.request_json() | {"seed": fixed.target.seed}
        with Workspace(self.workspace) as workspace:
            trees = {path: workspace.digests.tree(self.workspace / path) for path in fixed.target.inputs}
        inputs = {path: tree.digest for path, tree in trees.items() if tree is not None}
        space = {key: one.model_dump() for key, one in self.request.space.items()}
        return digest_json({"request": request, "inputs": inputs, "space": space})

    def run(self, trials: int | None = None, on_trial: Callable[[FrozenTrial], None] | None = None) -> None:
        """Until there are so many trials (default: `tune.trials`). Raises `GokuError` where one after another fails."""
        self._try_again_what_died()
        wanted, failed = trials or self.request.trials, 0
        while len(self.ended) < wanted:
            ended = self._one()
            failed = failed + 1 if ended.state == TrialState.FAIL else 0
            if on_trial is not None:
                on_trial(ended)
            if failed == SAME_FAILURE:
                why = ended.user_attrs.get("why", "")
                raise GokuError(f"{failed} trials failed one after another, the last one so:\n{why}")

    @property
    def ended(self) -> list[FrozenTrial]:
        """Trials that have run to their end, good or bad; those whose process died are not among them."""
        return [one for one in self.study.trials if one.state.is_finished() and "seconds" in one.user_attrs]

    def best(self) -> FrozenTrial:
        """Raises `GokuError` where no trial has come to the end of its phase."""
        done = [one for one in self.study.trials if one.state == TrialState.COMPLETE]
        if not done:
            raise GokuError(f"the study {self.name} has no finished trial yet.")
        return min(done, key=lambda one: (one.value, one.number))

    def _one(self) -> FrozenTrial:
        number = len(self.study.trials)
        self.study.sampler = optuna.samplers.TPESampler(
            seed=_seed(self.request.seed, number), n_startup_trials=self.request.startup_trials
        )
        with ExitStack() as held:
            own = self.study.ask()
            held.enter_context(lock(self._lock_file(own.number)))  # alive as long as this process holds it
            own.set_user_attr("host", socket.gethostname())
            changes = {key: _proposed(own, key, one) for key, one in self.request.space.items()}
            values = ", ".join(f"{key} {_short(value)}" for key, value in changes.items())
            console().print(f"trial {own.number}: {values}", soft_wrap=True, markup=False)
            try:
                result = trial.run(
                    place.work(self.params, changes, self.phase),
                    self.workspace,
                    self.folder / "places" / str(own.number),
                    self.open_tracker,
                    self._behind(own),
                    self._tags(own),
                )
            except GokuError as error:  # parameters that do not go together
                result = trial.Result("failed", "", why=str(error))
            self._tell(own, result)
        return self.study.trials[own.number]

    def _behind(self, own: Trial) -> trial.Behind:
        def behind(step: int, loss: float) -> bool:
            own.report(loss, step)
            return own.should_prune()

        return behind

    def _tags(self, own: Trial) -> dict[str, str]:
        tags = {"goku.study": self.name, "goku.trial": str(own.number)}
        return tags | ({"mlflow.parentRunId": self.parent} if self.parent else {})

    def _tell(self, own: Trial, result: trial.Result) -> None:
        own.set_user_attr("fingerprint", result.fingerprint)
        own.set_user_attr("seconds", result.seconds)
        told = set(self.study.trials[own.number].intermediate_values)
        for step, loss in result.losses:
            if step not in told:
                own.report(loss, step)
        if result.state == "done" and result.losses:
            self.study.tell(own, result.loss)
        elif result.state == "pruned":
            self.study.tell(own, state=TrialState.PRUNED)
        else:
            own.set_user_attr("why", result.why or "it has no validation loss")
            self.study.tell(own, state=TrialState.FAIL)

    def _try_again_what_died(self) -> None:
        """Trials that were under way in a process of this machine that is gone."""
        for one in self._dead():
            self.study.tell(one.number, state=TrialState.FAIL)
            if len(one.params) == len(self.request.space):
                self.study.enqueue_trial(one.params, user_attrs={"again": one.number})

    def _dead(self) -> Iterator[FrozenTrial]:
        here, young = socket.gethostname(), datetime.datetime.now() - datetime.timedelta(seconds=YOUNG_SECONDS)
        for one in self.study.get_trials(states=(TrialState.RUNNING,)):
            if one.user_attrs.get("host", here) != here:
                continue  # another machine's; it looks after its own
            if "host" not in one.user_attrs and one.datetime_start > young:
                continue  # it is just being begun
            with lock_if_free(self._lock_file(one.number)) as free:
                if free:
                    yield one

    def _lock_file(self, number: int) -> Path:
        return self.folder / "locks" / f"{number}.lock"


def storage_of(request: TuneRequest, folder: Path) -> optuna.storages.BaseStorage:
    """A journal file in `folder`, or the database whose URL the named variable holds. Raises `GokuError` where it does not."""
    if not request.storage_variable:
        return optuna.storages.JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    url = os.environ.get(request.storage_variable)
    if not url:
        raise GokuError(
            f"tune.storage_variable names {request.storage_variable}, which is not set. Set it to the URL of a database "
            "(postgresql+psycopg://USER:PASSWORD@HOST/NAME), or leave the key empty for a journal file."
        )
    try:
        return optuna.storages.RDBStorage(url)
    except (
        Exception
    ) as error:  # drivers raise errors of their own; none of them may print the URL, which holds a password
        raise GokuError(
            f"the database of {request.storage_variable} cannot be used ({type(error).__name__}). Is its driver installed (pip "
            "install 'psycopg[binary]'), and can it be reached from here?"
        ) from None


def _ends(one: Range) -> tuple[Any, Any]:
    return (one.choices[0], one.choices[-1]) if one.choices is not None else (one.low, one.high)


def _proposed(own: Trial, key: str, one: Range) -> Any:
    if one.choices is not None:
        return own.suggest_categorical(key, one.choices)
    if one.whole:
        return own.suggest_int(key, one.low, one.high, log=one.log)
    # Four digits: a preset that nobody can read is no preset.
    return float(f"{own.suggest_float(key, one.low, one.high, log=one.log):.4g}")


def _seed(seed: int, number: int) -> int:
    """32 bits."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{number}".encode(), digest_size=4).digest(), "big")


def values_of(one: FrozenTrial, space: Mapping[str, Range]) -> dict[str, Any]:
    """The values that a trial trained with."""
    plain = {key: one.params[key] for key in space if key in one.params}
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in plain.items()}


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
