"""Parameters with other values at some keys."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.plan import flat

if TYPE_CHECKING:
    from goku_core.config import Params


def changed(base: Params, changes: Mapping[str, Any]) -> Params:
    """`base` with `changes` (dotted key -> value; a section is replaced as a whole), checked as params.yaml is.

    Raises `GokuError` for a key that is not there, and for values that params.yaml would not be allowed to have.
    """
    from goku_core import config

    value = copy.deepcopy(base.model_dump(mode="json"))
    for key, new in changes.items():
        *path, last = key.split(".")
        place: Any = value
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
        # `phases` and `resolutions` hold names of one's own: a new one may be added below them.
        if not isinstance(place, dict) or (last not in place and path[-1:] not in (["phases"], ["resolutions"])):
            near = difflib.get_close_matches(key, list(flat(value, "")), n=1, cutoff=0.6)
            hint = f" Did you mean {near[0].lstrip('.')}?" if near else ""
            raise GokuError(f"{key} is no key of params.yaml.{hint}")
        place[last] = new
    where = ", ".join(f"{key}={new}" for key, new in changes.items() if not isinstance(new, Mapping)) or "params"
    return config.checked(value, where)
