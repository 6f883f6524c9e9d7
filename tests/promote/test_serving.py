"""A registered version as MLflow loads and serves it: our own loader, which checks every byte, behind MLflow's server."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawing_workspace import SIZE, drawing_workspace
from PIL import Image
from served_workspace import FOREIGN, free_port

from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle, registry, serving, signature

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("served")
    return root, drawing_workspace(root)


@pytest.fixture
def folder(drawn: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(signature.TRUSTED, raising=False)
    return bundle.location(*drawn)


def decoded(row: pd.Series) -> np.ndarray:
    """uint8 (T, H, W, 3) of an answer."""
    content = base64.b64decode(row["data"])
    if row["media"] == "image/png":
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))[None]
    import av

    with av.open(io.BytesIO(content)) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


def a_picture() -> str:
    file = io.BytesIO()
    Image.fromarray(np.full((*SIZE, 3), 200, np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_all_three_tasks_are_answered(folder: Path) -> None:
    model = serving._load_pyfunc(str(folder), {"bundle": folder.name})
    asked = [
        {"prompt": "a red circle", "seed": 3, "steps": 2},
        {"prompt": "a red circle", "seed": 4, "steps": 2},
        {"prompt": "a red circle", "frames": 5, "seed": 3, "steps": 2},
        {"prompt": "a red circle", "frames": 5, "seed": 3, "steps": 2, "first_frame": a_picture()},
    ]
    told = model.predict(pd.DataFrame(asked))
    assert list(told["task"]) == ["t2i", "t2i", "t2v", "i2v"] and set(told["model"]) == {folder.name}
    pixels = [decoded(row) for _, row in told.iterrows()]
    assert [one.shape for one in pixels] == [(1, *SIZE, 3), (1, *SIZE, 3), (5, *SIZE, 3), (5, *SIZE, 3)]
    assert not np.array_equal(pixels[0], pixels[1]), "another seed, another picture"
    again = decoded(model.predict(pd.DataFrame(asked[:1])).iloc[0])
    assert np.array_equal(again, pixels[0]), "a picture does not depend on what else was asked for"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": ""}, "row 0: prompt"),
        ({"prompt": "x", "frames": 6}, "row 0: 6 frames; clips have"),
        ({"prompt": "x", "height": 33}, "row 0: height"),
        ({"prompt": "x", "seed": -1}, "row 0: seed"),
        ({"prompt": "x", "loader": "os.system"}, "row 0: loader"),
        ({"prompt": "x", "first_frame": "no base64!"}, "not base64"),
        ({"prompt": "x", "first_frame": base64.b64encode(b"no picture").decode()}, "cannot be|Give a picture"),
        ({"prompt": "x", "height": 16384, "width": 16384}, "pixels; a request may ask for"),
    ],
)
def test_what_cannot_be_drawn_is_said_of_its_row(folder: Path, row: dict[str, object], words: str) -> None:
    model = serving._load_pyfunc(str(folder), {"bundle": folder.name})
    with pytest.raises(GokuError, match=words):
        model.predict(pd.DataFrame([row]))
    with pytest.raises(GokuError, match="17 rows"):
        model.predict(pd.DataFrame([{"prompt": "x"}] * 17))


def test_only_the_named_bundle_is_loaded_and_only_signed_where_that_is_demanded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for config in ({"bundle": "0" * 64}, {}, None):
        with pytest.raises(GokuError, match="not the manifest of bundle"):
            serving._load_pyfunc(str(folder), config)
    monkeypatch.setenv(signature.TRUSTED, signature.keygen(tmp_path / "key.pem"))
    with pytest.raises(GokuError, match="not signed"):
        serving._load_pyfunc(str(folder), {"bundle": folder.name})


def post(url: str, rows: list[dict[str, object]]) -> tuple[int, dict[str, object]]:
    body = json.dumps({"dataframe_records": rows}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture
def server(drawn: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    root, _ = drawn
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry.mirror(root, "goku", "champion")
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    own = {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": registry.tracking_uri(root),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    words = ["models", "serve", "-m", "models:/goku@champion", "--env-manager", "local", "--host", "127.0.0.1"]
    log = root / "serve.log"
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words, "--port", str(port)],
            env=kept | own,
            cwd=root,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.mark.platform
def test_mlflow_serves_the_champion(drawn: tuple[Path, str], server: str) -> None:
    root, digest = drawn
    status, told = post(server, [{"prompt": "a red circle", "seed": 3, "steps": 2}])
    assert status == 200, told
    row = pd.Series(told["predictions"][0])
    assert (row["model"], row["task"], row["seed"]) == (digest, "t2i", 3)
    alone = serving._load_pyfunc(str(bundle.location(root, digest)), {"bundle": digest})
    here = alone.predict(pd.DataFrame([{"prompt": "a red circle", "seed": 3, "steps": 2}]))
    assert np.array_equal(decoded(row), decoded(here.iloc[0])), "the pixels that the bundle draws here"

    clip = {"prompt": "a red circle", "frames": 5, "steps": 2}
    for asked, task in ((clip, "t2v"), (clip | {"first_frame": a_picture()}, "i2v")):
        status, told = post(server, [asked])
        assert status == 200, told
        row = pd.Series(told["predictions"][0])
        assert row["task"] == task and decoded(row).shape == (5, *SIZE, 3)
    status, told = post(server, [clip | {"frames": 6}])
    assert status == 400 and "clips have 5, 9, 13" in json.dumps(told)
    bundle.verify(bundle.location(root, digest), digest)  # MLflow wrote nothing into it
