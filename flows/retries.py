"""How often a failed task is repeated: each kind of failure (`goku_core.pipeline.failures`) has a budget of its own.

The launcher has its own budgets for ranks, and a big map for its children: what arrives here has outlived those. Numbers
are our choice.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from prefect.client.schemas.objects import State, TaskRun

from goku_core.pipeline.errors import FailureKind, GokuError
from goku_core.pipeline.failures import classify

BUDGETS: dict[FailureKind, int] = {
    "infrastructure": 3,  # a killed process, a full disk, a network: pauses give somebody or something time to mend it
    "data": 1,  # a file that was just being written is whole the next time; one that is damaged stays so
    "numeric": 1,  # from the checkpoint, in a new process: what a flipped bit in memory caused does not come again
    "unknown": 1,  # a fault of the code fails again; one repetition tells
    "user": 0,
}
PAUSES = [5.0, 30.0, 120.0]  # s, before the first, second, third repetition; the last also for all that follow
MOST = sum(BUDGETS.values())

_spent: dict[str, Counter[FailureKind]] = {}  # by task run: repetitions of a task stay in one process


def kind_of(error: BaseException) -> FailureKind:
    """What is no refusal and no failed body is a fault around them: of this process, of Prefect's server, of a network."""
    return error.kind if isinstance(error, GokuError) else classify(error)


def may_be_repeated(task: object, run: TaskRun, state: State[Any]) -> bool:
    """Is there something left of the budget for this kind of failure? What a user must mend has none."""
    try:
        state.result()
    except Exception as error:
        spent = _spent.setdefault(str(run.id), Counter())
        kind = kind_of(error)
        spent[kind] += 1
        return spent[kind] <= BUDGETS[kind]
    return False
