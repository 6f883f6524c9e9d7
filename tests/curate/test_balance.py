"""Balance: shares come out as wanted, limits hold, one more clip changes little, nothing happens to small sets."""

import hashlib
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_core.curate import Request
from goku_core.curate.table import EMPTY
from goku_core.curate.taxonomy.balance import balance, summary, targets
from goku_core.curate.taxonomy.request import Balance


def row(name: str, label: str | None, primary: str = "human", kind: str = "video") -> dict:
    named = {"clip_id": hashlib.sha256(name.encode()).hexdigest(), "label": label, "kind": kind, "tier": "480p"}
    return {**EMPTY, **named, "primary": primary if label else None}


def clips(**counts: int) -> list[dict]:
    return [row(f"{label}-{n}", label) for label, count in counts.items() for n in range(count)]


def request(**values) -> Request:
    return Request(balance={"least_labelled": 0, **values})


def walked(rows: list[dict]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for one in rows:
        if one["outcome"] == "kept":
            found[one["label"]] += one["repeats"]
    return dict(found)


def test_a_long_tail_becomes_uniform_and_an_epoch_keeps_its_size() -> None:
    found = balance(clips(kid=600, dinner=200, wedding=100), request())
    assert walked(found) == {"kid": 300, "dinner": 300, "wedding": 300}
    assert Counter(r["repeats"] for r in found if r["label"] == "kid") == {0: 300, 1: 300}
    assert Counter(r["repeats"] for r in found if r["label"] == "dinner") == {1: 100, 2: 100}
    assert {r["repeats"] for r in found if r["label"] == "wedding"} == {3}
    gone = [r for r in found if r["repeats"] == 0]
    assert all((r["outcome"], r["filter"], r["tier"]) == ("rejected", "balance", None) for r in gone)
    assert all(r["score"] >= r["threshold"] == 0.5 and "300 are wanted within human" in r["message"] for r in gone)


def test_limits_hold_and_what_they_take_goes_to_the_others() -> None:
    found = targets({"kid": 9000, "dinner": 900, "wedding": 100}, "human", Balance())
    assert found["wedding"] == 400 and found["dinner"] == 3600 and found["kid"] == 6000
    assert targets({"kid": 9000, "wedding": 1}, "human", Balance(least_kept=0.9))["kid"] >= 8100


def test_weights_of_classes_and_of_a_primary() -> None:
    counts = {"kid": 300, "dinner": 300, "wedding": 300}
    assert targets(counts, "human", Balance(weights={"kid": 2, "food": 9})) == {
        "kid": 450,
        "dinner": 225,
        "wedding": 225,
    }
    assert sum(targets(counts, "human", Balance(weights={"human": 2})).values()) == 1800
    assert targets(counts, "human", Balance(weights={"kid": 0})) == {"kid": 0, "dinner": 450, "wedding": 450}
    assert targets(counts | {"kid": 600}, "human", Balance(strength=0)) == counts | {"kid": 600}


def test_kinds_and_primaries_are_balanced_apart_and_unlabelled_clips_are_left_alone() -> None:
    rows = clips(kid=30, dinner=10) + [row(f"p{n}", "kid", kind="image") for n in range(7)]
    rows += [row(f"s{n}", "sky", "scenery") for n in range(9)] + [row(f"u{n}", None) for n in range(5)]
    found = balance(rows, request())
    assert [r["repeats"] for r in found[40:]] == [1] * 21
    assert walked(found[:40]) == {"kid": 20, "dinner": 20}


def test_rows_that_are_not_kept_take_no_part() -> None:
    rows = clips(kid=4, dinner=4)
    lost = [{**r, "outcome": "rejected", "filter": "motion_low"} for r in clips(kid=400)]
    found = balance(rows + lost, request())
    assert {r["repeats"] for r in found} == {1} and [r["filter"] for r in found[8:]] == ["motion_low"] * 400


def test_small_sets_are_left_as_they_are_and_the_report_says_why() -> None:
    rows = clips(kid=600, wedding=100)
    found = balance(rows, Request())
    assert found == rows and found is not rows
    said = summary(found, Request())
    assert said["balanced"] is False and said["why_not"] == "700 labelled clips, balance begins at 10000"


def test_the_summary_shows_before_and_after() -> None:
    said = summary(balance([*clips(kid=600, dinner=200, wedding=100), row("x", None)], request()), request())
    assert said["balanced"] and (said["labelled"], said["unlabelled"], said["why_not"]) == (900, 1, None)
    shown = {one["label"]: (one["before"], one["kept"], one["after"]) for one in said["labels"]}
    assert shown == {"kid": (600, 300, 300), "dinner": (200, 200, 300), "wedding": (100, 100, 300)}


def test_it_is_a_pure_function_of_the_rows_in_any_order() -> None:
    rows = clips(kid=60, dinner=20, wedding=10)
    before = [dict(r) for r in rows]
    forwards = {r["clip_id"]: r["repeats"] for r in balance(rows, request())}
    backwards = {r["clip_id"]: r["repeats"] for r in balance(rows[::-1], request())}
    assert forwards == backwards and rows == before


def test_more_clips_change_few_decisions() -> None:
    """2 % more clips of one class: borders move by the change of the targets, no further."""
    first = {r["clip_id"]: r["repeats"] for r in balance(clips(kid=3000, dinner=1000, wedding=500), request())}
    second = {r["clip_id"]: r["repeats"] for r in balance(clips(kid=3060, dinner=1000, wedding=500), request())}
    changed = sum(first[name] != second[name] for name in first)
    assert changed <= 60


@settings(max_examples=60, deadline=None)
@given(
    counts=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 5000), min_size=1),
    strength=st.floats(0, 1),
    most=st.integers(1, 10),
    kept=st.floats(0, 1),
)
def test_targets_stay_within_their_limits(counts, strength, most, kept) -> None:
    found = targets(counts, "p", Balance(strength=strength, most_repeats=most, least_kept=kept))
    for name, count in counts.items():
        assert kept * count - 1 <= found[name] <= most * count
    assert abs(sum(found.values()) - sum(counts.values())) <= len(counts)
    order = sorted(counts, key=counts.get)
    assert all(found[a] <= found[b] + 1 for a, b in pairwise(order))


def test_impossible_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="weight of kid is -1"):
        Balance(weights={"kid": -1})
