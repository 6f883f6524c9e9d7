"""Which samples form which pack on which rank at which step. numpy only; the same answer on every rank."""

from goku_core.packing.balance import Balance, balance
from goku_core.packing.cost import Cost, Fit, fit, flop_cost
from goku_core.packing.draws import philox, uniform
from goku_core.packing.plan import Packs, Rounds, arrange, plan
from goku_core.packing.walk import Mix, rows_of_step

__all__ = [
    "Balance",
    "Cost",
    "Fit",
    "Mix",
    "Packs",
    "Rounds",
    "arrange",
    "balance",
    "fit",
    "flop_cost",
    "philox",
    "plan",
    "rows_of_step",
    "uniform",
]
