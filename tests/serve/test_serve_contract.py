"""Our own OpenAPI description, taken at its word: schemathesis sends what it allows and what it does not."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import schemathesis
from drawing_workspace import drawing_workspace
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from goku_core.serve.app import make_app
from goku_core.serve.desk import Desk
from goku_core.serve.limits import Limits

pytestmark = pytest.mark.platform
# Small enough that what is allowed is drawn at once, so that tickets in every state come by.
LIMITS = Limits(
    queue=8, per_client=9, side=64, frames=9, steps=4, tokens=64, prompt=200, upload_bytes=10_000, deadline_s=20
)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("contract")
    drawing_workspace(root)
    desk = Desk(root, LIMITS, "cpu")
    desk.open()
    deadline = time.monotonic() + 120
    while not desk.ready:
        assert time.monotonic() < deadline, desk.unready_because
        time.sleep(0.1)
    yield schemathesis.openapi.from_asgi("/openapi.json", make_app(desk, page=False, hosts=["testserver"]))
    desk.close(5.0)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_answers_are_as_described(described: schemathesis.BaseSchema, mode: GenerationMode) -> None:
    """No status, type or shape that is not declared, no fault of the server; what the description does not allow is not taken."""
    asked: Counter[str] = Counter()
    for found in described.get_all_operations():
        operation = found.ok()

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            asked[case.operation.label] += 1
            if mode is GenerationMode.POSITIVE and case.query:
                case.query.pop("wait", None)  # nothing new, only longer
            # What fits the form can still be more than the model or the limits allow: 422 says so.
            case.call_and_validate(headers={"Host": "localhost"}, excluded_checks=[positive_data_acceptance])

        with suppress(Unsatisfiable):  # of an operation that asks for nothing, nothing can be asked wrongly
            check()
    assert asked["POST /v1/generations"] > 10
    assert len(asked) >= (12 if mode is GenerationMode.POSITIVE else 2)


def test_the_form_that_programs_are_made_from(tmp_path: Path) -> None:
    """Bounds of an order are in the description, so that a client can check before it asks."""
    order = make_app(Desk(tmp_path), page=False).openapi()["components"]["schemas"]["Order"]
    assert order["additionalProperties"] is False and order["required"] == ["prompt"]
    assert order["properties"]["task"]["enum"] == ["t2i", "t2v", "i2v"]
    assert json.dumps(order["properties"]["height"]).count('"multipleOf": 16') == 1
