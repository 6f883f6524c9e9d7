"""The table of a phase's goodput says where all of its time went."""

from flows.goodput import rows


def test_shares_are_of_the_whole() -> None:
    spent = {"productive": 60.0, "lost": 10.0, "data": 5.0, "checkpoint": 5.0, "start": 15.0, "idle": 5.0, "wall": 50.0}
    found = {row["part"]: (row["rank-seconds"], row["share"]) for row in rows(spent)}
    assert found["productive"] == (60.0, 0.6) and found["lost"] == (10.0, 0.1)
    assert sum(share for _, share in found.values()) == 1.0
    assert all(row["share"] == 0.0 for row in rows(dict.fromkeys(spent, 0.0)))
