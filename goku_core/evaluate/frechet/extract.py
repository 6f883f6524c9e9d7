"""Features of a set: each sample is read and passed through the network once, by any number of workers.

A batch always has the same number of rows (a last one is filled up with black) and one thread adds up, so that a sample's
numbers do not depend on what is passed with it.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from goku_core.evaluate.frechet.flavours import FLAVOURS, Flavour
from goku_core.evaluate.frechet.members import Member, npz_rows
from goku_core.evaluate.frechet.store import Features, FeatureStore
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.devices import plain_float32

if TYPE_CHECKING:
    import torch

BATCH = {"inception": 32, "i3d": 4, "c3d": 4}
MEMORY = 12 << 30
"""Of a worker: a batch of the largest network on a CPU, or what CUDA maps, with room to spare."""
OUTCOME = pa.schema([("sample_id", pa.string()), ("outcome", pa.string())])
SVD_SIDES = (240, 320)


def network_fingerprint(flavour: Flavour, weights: Path) -> str:
    """Names the network, its weights and the way to it. Raises GokuError where the weights are not there."""
    said = _module(flavour.network).fingerprint(weights)
    way = (flavour.resize, flavour.antialias, flavour.crop, flavour.frames, flavour.stride, flavour.fps)
    return f"{said}-{hashlib.sha256(repr(way).encode()).hexdigest()[:8]}"


def extract(
    found: Sequence[Member],
    flavour: Flavour,
    weights: Path,
    store: FeatureStore,
    *,
    device: str = "cpu",
    batch: int = 0,
    workers: int = 1,
    drawn_start: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[Features, tuple[str, ...]]:
    """Features of all members, those in the store taken from there; and the ids of clips that were too short.

    batch        samples in one pass; 0: by the network
    drawn_start  clips begin at a frame drawn from their id, and short ones are left out (how StyleGAN-V reads the real
                 set); otherwise at the first frame, and a short one is an error

    Raises GokuError naming files that cannot be read.
    """
    from goku_core.pipeline.pool import run_operator
    from goku_core.scorers.devices import accelerators

    there = store.known()
    left = [member for member in found if (member.sample_id, member.media) not in there]
    columns = {
        "sample_id": [member.sample_id for member in left],
        "path": [str(member.path) for member in left],
        "row": [member.row for member in left],
        "media": [member.media for member in left],
    }
    settings = {
        "flavour": flavour.name,
        "weights": str(weights),
        "store": str(store.folder),
        "network": store.network,
        "device": device,
        "batch": batch or BATCH[flavour.network],
        "drawn_start": drawn_start,
    }
    short: set[str] = set()
    if left:
        result = run_operator(
            "goku_core.evaluate.frechet.extract:operator",
            pa.table(columns),
            settings,
            workers=workers,
            batch_rows=settings["batch"],
            memory_bytes=MEMORY,
            devices=accelerators(device, 1.0, "--device"),
            name=f"features {flavour.network}",
            on_progress=on_progress,
        )
        if result.quarantined:
            bad = result.quarantined[0]
            raise GokuError(
                f"{len(result.quarantined)} files cannot be measured, the first is {columns['path'][bad.row_index]}: "
                f"{bad.message}. "
                "A distance over a part of the set would be another number: mend or remove them, and run again."
            )
        short = {row["sample_id"] for row in result.table.to_pylist() if row["outcome"] == "short"}
    if short and not drawn_start:
        raise GokuError(
            f"{len(short)} clips are shorter than {flavour.frames} frames at stride {flavour.stride}, the first is "
            f"{min(short)}. The flavour {flavour.name!r} needs longer ones."
        )
    whole = [(member.sample_id, member.media) for member in found if member.sample_id not in short]
    if not whole:
        raise GokuError(f"no clip is long enough for the flavour {flavour.name!r} ({flavour.frames} frames)")
    return store.read(whole), tuple(sorted(short))


def operator(batch: pa.RecordBatch, settings: Mapping[str, Any]) -> pa.RecordBatch:
    """Reads the samples of the batch and appends their features to the store."""
    rows = batch.to_pylist()
    if not rows:
        return _said([], [])
    flavour = FLAVOURS[settings["flavour"]]
    pictures: list[torch.Tensor] = []
    kept, outcomes = [], []
    for row in rows:
        pixels = read(row, flavour, settings["drawn_start"])
        outcomes.append("short" if pixels is None else "ok")
        if pixels is not None:
            pictures.append(pixels)
            kept.append(row)
    vectors = passed(pictures, flavour, Path(settings["weights"]), settings["device"], settings["batch"])
    store = FeatureStore(Path(settings["store"]), settings["network"])
    store.append([row["sample_id"] for row in kept], [row["media"] for row in kept], vectors)
    return _said([row["sample_id"] for row in rows], outcomes)


def _said(ids: list[str], outcomes: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"sample_id": ids, "outcome": outcomes}, schema=OUTCOME)


def read(row: Mapping[str, Any], flavour: Flavour, drawn_start: bool) -> torch.Tensor | None:
    """Pixels of a sample: uint8 (3, h, w) of a picture, float32 (3, t, h, w) in -1..1 of a clip; None where it is short."""
    import torch

    from goku_core.media.decode import read_image

    path = Path(row["path"])
    if flavour.network == "inception":
        if row["row"] >= 0:
            picture = npz_rows(path, path.stat().st_mtime_ns)[row["row"]]
        else:
            picture = read_image(path)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    frames = _frames(path, flavour.fps)
    needed = (flavour.frames - 1) * flavour.stride + 1
    if len(frames) < needed:
        return None
    start = drawn(row["sample_id"], len(frames) - needed) if drawn_start else 0
    return prepared(np.stack(frames[start : start + needed : flavour.stride]), flavour)


def drawn(sample_id: str, last: int) -> int:
    """0..last, as a function of the id alone."""
    digest = hashlib.blake2b(f"frechet/start/{sample_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (last + 1)


def prepared(clip: np.ndarray, flavour: Flavour) -> torch.Tensor:
    """uint8 (t, h, w, 3) -> float32 (3, t, h, w) in -1..1; 224 x 224 for I3D, by the flavour's resize; C3D resizes itself."""
    import torch
    import torch.nn.functional as F

    from goku_core.evaluate.networks.i3d import SIDE

    x = torch.from_numpy(np.array(clip)).permute(0, 3, 1, 2).float()
    if flavour.antialias:
        height, width = x.shape[2:]
        scale = max(SVD_SIDES[0] / height, SVD_SIDES[1] / width)
        sides = (max(SVD_SIDES[0], round(height * scale)), max(SVD_SIDES[1], round(width * scale)))
        x = F.interpolate(x, sides, mode="bilinear", align_corners=False, antialias=True)
        top, left = ((side - wanted) // 2 for side, wanted in zip(sides, SVD_SIDES, strict=True))
        x = x[:, :, top : top + SVD_SIDES[0], left : left + SVD_SIDES[1]]
    if flavour.network == "i3d":
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return (x / 127.5 - 1).permute(1, 0, 2, 3)


def _frames(path: Path, fps: float) -> list[np.ndarray]:
    """uint8 (h, w, 3) frames; at `fps`, the frame shown at each moment, where fps is not 0."""
    from goku_core.media.decode import frames

    if path.suffix == ".npy":
        whole = np.load(path, allow_pickle=False)
        if whole.ndim != 4 or whole.shape[3] != 3 or whole.dtype != np.uint8:
            raise GokuError(f"{path} is {whole.dtype} {whole.shape}, not a uint8 clip (frames, height, width, 3)")
        return list(whole)
    shown = list(frames(path))
    if not fps:
        return [frame.rgb() for frame in shown]
    times = np.array([frame.seconds for frame in shown])
    wanted = times[0] + np.arange(int((times[-1] - times[0]) * fps + 1e-6) + 1) / fps
    places = np.searchsorted(times, wanted + 1e-6, side="right") - 1
    return [shown[place].rgb() for place in places]


def passed(
    pictures: Sequence[torch.Tensor], flavour: Flavour, weights: Path, device: str, batch: int
) -> dict[str, np.ndarray]:
    """Features of at most `batch` samples by name, float32 (n, width). Pictures of different sizes go one size after the other."""
    import torch

    network = _network(flavour.network, weights, device)
    rows: dict[int, dict[str, np.ndarray]] = {}
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, pixels in enumerate(pictures):
        by_shape.setdefault(tuple(pixels.shape), []).append(number)
    with torch.inference_mode():
        for numbers in by_shape.values():
            stack = torch.stack([pictures[number] for number in numbers])
            if len(numbers) < batch:
                stack = torch.cat([stack, stack.new_zeros(batch - len(numbers), *stack.shape[1:])])
            found = {name: values.float().cpu().numpy() for name, values in network(stack.to(device)).items()}
            for place, number in enumerate(numbers):
                rows[number] = {name: values[place] for name, values in found.items()}
    names = rows[0].keys() if rows else ()
    return {name: np.stack([rows[number][name] for number in range(len(pictures))]) for name in names}


@lru_cache(maxsize=1)
def _network(name: str, weights: Path, device: str) -> Any:
    import torch

    if device == "cpu":
        torch.set_num_threads(1)
    plain_float32(device)
    return _module(name).load(weights, device)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"goku_core.evaluate.networks.{name}")
