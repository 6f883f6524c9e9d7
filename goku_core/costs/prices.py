"""The section `plan:` of params.yaml. No part of a fingerprint: a price changes no result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

GPU = Literal["a100", "h100", "h200", "b200"]
MONTH_HOURS = 730.0


class Prices(BaseModel):
    """Our choice: round figures of the size that clouds ask on demand; a team writes its own."""

    model_config = ConfigDict(extra="forbid")

    currency: str = Field(default="USD", min_length=1, max_length=8, description="currency of all prices")
    gpu_hour: dict[GPU, Annotated[float, Field(ge=0)]] = Field(
        default={"a100": 2.0, "h100": 3.0, "h200": 4.0, "b200": 6.0},
        description="price of one GPU for an hour, its share of the machine included, by kind",
    )
    cpu_hour: float = Field(default=0.1, ge=0, description="price of a machine without GPU for an hour")
    storage_gb_month: float = Field(default=0.023, ge=0, description="price of keeping 1e9 bytes for a month")


class PlanRequest(BaseModel):
    """How `goku plan` counts."""

    model_config = ConfigDict(extra="forbid")

    gpu: GPU = Field(
        default="h100", description="kind of GPU that is planned with where neither machine nor record says"
    )
    prices: Prices = Field(default_factory=Prices, description="the price table")

    def money(self, gpu_hours: float, machine_hours: float, kind: str | None = None) -> float | None:
        """GPU-hours where GPUs were used, else hours of the machine; None where the kind has no price."""
        if not gpu_hours:
            return machine_hours * self.prices.cpu_hour
        price = self.prices.gpu_hour.get(kind)  # type: ignore[call-overload]
        return None if price is None else gpu_hours * price
