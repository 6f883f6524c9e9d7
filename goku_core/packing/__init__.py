"""Which samples form which pack on which rank at which step. numpy only; the same answer on every rank."""

from goku_core.packing.draws import philox, uniform
from goku_core.packing.plan import Mix, plan

__all__ = ["Mix", "philox", "plan", "uniform"]
