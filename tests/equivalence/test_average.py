"""The averaged weights equal the average computed by hand from the raw weights of every step."""

from pathlib import Path

from latent_workspace import make_workspace, train
from safetensors.torch import load_file

STEPS = 5
DECAY = 0.7


def test_average_of_five_steps(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "line")
    raw = []
    for steps in range(1, STEPS + 1):
        place = tmp_path / str(steps)
        train(workspace, "first", place, steps=steps, decay=0.0, ema_decay=DECAY)
        raw.append(load_file(place / "out/models/first/training.safetensors"))
    folder = tmp_path / str(STEPS) / "out/models/first"
    train(workspace, "first", tmp_path / "start", steps=1, learning_rate=1e-30)  # a step of nothing: the random start
    start = load_file(tmp_path / "start/out/models/first/training.safetensors")
    average = {key: value.double() for key, value in start.items()}
    for step, weights in enumerate(raw, start=1):
        decay = min(DECAY, step / (step + 9))  # a young average forgets faster, else it would keep the random start
        average = {key: decay * value + (1 - decay) * weights[key].double() for key, value in average.items()}
    saved = load_file(folder / "model.safetensors")
    assert saved.keys() == average.keys()
    for key, value in saved.items():
        assert (value - average[key]).abs().max() < 1e-6, key
    assert (saved["final.weight"] - raw[-1]["final.weight"]).abs().max() > 1e-5
