"""The sizes of the paper's Table 1, and rotary positions."""

import pytest
import torch

from goku_core.models import CONFIGS, parameter_count
from goku_core.models.rope import axis_split, rope_table, rotate

# From the paper's Table 1 and Flan-T5-XL, blocks alone. 1b has no text; the embedding of its thousand labels adds 0.2 %.
PUBLISHED = [
    ("1b", 0.669e9, 0.01),
    ("2b", 2.005e9, 0.005),
    ("8b", 8.055e9, 0.005),
    ("2b-h128", 2.005e9, 0.005),
    ("8b-h128", 8.055e9, 0.005),
]


@pytest.mark.parametrize(("name", "parameters", "tolerance"), PUBLISHED)
def test_parameter_counts(name: str, parameters: float, tolerance: float) -> None:
    assert parameter_count(CONFIGS[name]) == pytest.approx(parameters, rel=tolerance)


@pytest.mark.parametrize(("width", "split"), [(64, (16, 24, 24)), (128, (32, 48, 48)), (72, (20, 26, 26))])
def test_rope_split(width: int, split: tuple[int, int, int]) -> None:
    assert axis_split(width) == split


def test_rope_scores_depend_on_distance_only() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 64, generator=generator, dtype=torch.float64)
    here = torch.tensor([[1, 4, 7]])
    there = torch.tensor([[3, 2, 9]])

    def score(shift: int) -> torch.Tensor:
        turned_q = rotate(q, rope_table(here + shift, 64))
        turned_k = rotate(k, rope_table(there + shift, 64))
        return (turned_q * turned_k).sum()

    assert score(0).item() == pytest.approx(score(5).item(), abs=1e-5)
    assert rotate(q, rope_table(here, 64)).norm().item() == pytest.approx(q.norm().item(), abs=1e-6)
