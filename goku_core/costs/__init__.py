"""What work costs: seconds, GPU-hours, money and disk, before it is done and after.

prices    the price table, `plan:` in params.yaml
machine   which GPUs a machine has, and which of them a cell uses
expected  what a cell of the plan will need, from its last record or from what its request says
spent     what finished records have cost
"""

from goku_core.costs.prices import PlanRequest, Prices

__all__ = ["PlanRequest", "Prices"]
