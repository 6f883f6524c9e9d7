"""The benchmarks of the servers and of the engines, at their smallest: do they run, and do their figures fit together."""

from __future__ import annotations

import pytest

from benchmarks import orchestration, up


@pytest.mark.platform
def test_up_is_measured_from_nothing_and_again():
    found = {(row["case"], row["side"]): row for row in up.main(["--small"]).rows}
    first, again = found["from nothing", "goku up"], found["all up", "goku up"]
    assert first["deployments"] > 0 and first["memory_mb"] > 100
    assert again["median_s"] < first["median_s"] / 2
    assert found["from nothing", "Prefect's server alone"]["median_s"] < first["median_s"]
    assert ("databases of before", "goku up") in found and ("stop", "goku down") in found


@pytest.mark.slow
def test_an_engines_share_is_what_its_side_takes_beyond_the_one_it_adds_to():
    rows = {row["side"]: row for row in orchestration.main(["--small", "--sides", "bare", "platform", "mlflow"]).rows}
    for side, before in (("platform", "bare"), ("mlflow", "platform")):
        added = min(rows[side]["seconds"]) - min(rows[before]["seconds"])
        assert rows[side]["added_wall_s"] == pytest.approx(added)
        assert rows[side]["wall_percent_of_bare"] == pytest.approx(100 * added / min(rows["bare"]["seconds"]))
