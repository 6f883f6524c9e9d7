"""How rows are divided among shards and workers: by their order alone, whatever has failed and whoever works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from goku_core.precompute.batches import Finished, commit, key_of, plan
from goku_core.precompute.stage import _calls

ROWS = pa.table({"clip_id": [f"c{number:02d}" for number in range(23)]})


@pytest.mark.parametrize("failed", [set(), {"c03"}, {"c00", "c01", "c02", "c03"}, {"c04", "c05", "c09", "c22"}])
def test_the_pools_slices_are_the_batches(failed: set[str]) -> None:
    batches = plan(ROWS, 4, failed)
    assert [c for batch in batches for c in batch["clip_id"].to_pylist()] == [
        c for c in ROWS["clip_id"].to_pylist() if c not in failed
    ]
    draws = np.random.default_rng(0)
    for _ in range(20):  # any of them may be finished already
        left = [batch for batch in batches if draws.random() < 0.6]
        sliced = []
        for call in _calls(left):
            rows = call["shard_batch_rows"][0].as_py()
            sliced += [call.slice(start, rows) for start in range(0, len(call), rows)]
        assert sorted(key_of(one) for one in sliced) == sorted(key_of(one) for one in left)
        for one in sliced:
            assert len(set(one["shard_batch"].to_pylist())) == 1 and len(one) == one["shard_batch_rows"][0].as_py()


def test_a_failure_changes_its_own_batch_only() -> None:
    before, after = plan(ROWS, 4, set()), plan(ROWS, 4, {"c05"})
    assert [key_of(one) == key_of(other) for one, other in zip(before, after, strict=True)] == [True, False] + [
        True
    ] * 4


def test_what_other_encoders_made_is_not_finished(tmp_path: Path) -> None:
    commit(tmp_path, "key", [], {"vae": "one", "text": "words"})
    assert Finished(tmp_path, {"vae": "one", "text": "words"}).get("key") is not None
    assert Finished(tmp_path, {"vae": "two", "text": "words"}).get("key") is None
    assert Finished(tmp_path, {"vae": "one", "text": "words"}).get("other") is None
