"""Steps that harmed the run are left out, and all others keep their place."""

from goku_core.train.position import Position


def test_skipped_data_steps_are_never_used_and_nothing_else_is_lost() -> None:
    for skipped in ([], [0], [3], [3, 4], [0, 2, 7], [7, 0, 2], [11]):
        used = [Position(step=step, skipped=skipped).data_step for step in range(12)]
        assert used == [place for place in range(40) if place not in skipped][:12]


def test_a_position_survives_json() -> None:
    import json

    position = Position(step=4, images=3, skipped=[2], log=[{"step": 2, "loss": 0.5}])
    assert Position(**json.loads(json.dumps(position.as_json()))) == position
