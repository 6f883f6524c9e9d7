"""C3D (Tran et al., arXiv 1412.0767) fine-tuned on UCF-101: whose predictions the video Inception Score is taken on.

The weights are TGANv2's: the Caffe model as Chainer arrays in `conv3d_deepnetA_ucf.npz`, and the mean clip in `mean2.npz`.
StyleGAN-V and its followers use the same network as TorchScript (`c3d_ucf101.pt`, "reproduced" from these arrays),
which is a program and is not opened here. Source of names, shapes and the way to 112 x 112: pfnet-research/tgan2 (MIT)
tgan2/models/c3d/c3d_ucf101.py at d83018c.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source, obtain
from goku_core.scorers.tensors import adopt
from goku_core.scorers.weights import digest

_WHERE = "https://github.com/mitmul/tgan2/releases/download/untagged-d2d4900c6c1bb09d9f5a/"
_LICENCE = "MIT (the repository's; the Caffe model's own licence is not stated)"
_FETCH = f"curl -L -o weights/{{file}} {_WHERE}{{file}}"
SOURCE = Source("c3d-ucf101", "conv3d_deepnetA_ucf.npz", _FETCH.format(file="conv3d_deepnetA_ucf.npz"), _LICENCE)
MEAN = Source("c3d-ucf101-mean", "mean2.npz", _FETCH.format(file="mean2.npz"), _LICENCE)
FRAMES, SIDE, CLASSES = 16, 112, 101
EDGE = 8
"""The mean clip is 128 x 171; its part from (8, 8) on is subtracted."""
LAYERS = {
    "conv1a": (3, 64),
    "conv2a": (64, 128),
    "conv3a": (128, 256),
    "conv3b": (256, 256),
    "conv4a": (256, 512),
    "conv4b": (512, 512),
    "conv5a": (512, 512),
    "conv5b": (512, 512),
}
POOLED = {"conv1a": (1, 2, 2), "conv2a": (2, 2, 2), "conv3b": (2, 2, 2), "conv4b": (2, 2, 2), "conv5b": (2, 2, 2)}


class C3D(nn.Module):
    """Clips of 16 frames to the probabilities of the 101 classes."""

    def __init__(self) -> None:
        super().__init__()
        for name, (inputs, outputs) in LAYERS.items():
            self.add_module(name, nn.Conv3d(inputs, outputs, 3, padding=1))
        self.fc6 = nn.Linear(512 * 4 * 4, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, CLASSES)
        self.mean = nn.Parameter(torch.zeros(3, FRAMES, SIDE, SIDE), requires_grad=False)

    def forward(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        """float32 RGB (n, 3, 16, h, w) in -1..1 -> "probabilities" (n, 101)."""
        x = self.prepared(clips)
        for name in LAYERS:
            x = F.relu(self.get_submodule(name)(x))
            if name in POOLED:
                # Chainer covers all of its input: 7 places become 4.
                x = F.max_pool3d(x, POOLED[name], ceil_mode=True)
        x = F.relu(self.fc7(F.relu(self.fc6(x.flatten(1)))))
        return {"probabilities": self.fc8(x).softmax(dim=1)}

    def prepared(self, clips: torch.Tensor) -> torch.Tensor:
        """Blue first, in 0..256, 112 x 112 (bilinear, corners aligned as Chainer does), less the mean clip."""
        count, _, frames, *_ = clips.shape
        flat = (clips.flip(1) * 128).transpose(1, 2).flatten(0, 1)
        small = F.interpolate(flat, (SIDE, SIDE), mode="bilinear", align_corners=True)
        return small.unflatten(0, (count, frames)).transpose(1, 2) + (128 - self.mean)


def load(weights: Path, device: str = "cpu") -> C3D:
    """The network with TGANv2's weights. weights: the folder of weights. Raises GokuError where they are not there."""
    path = obtain(SOURCE, weights)
    arrays = _arrays(path)
    tensors = {
        f"{layer}.{'weight' if part == 'W' else 'bias'}": torch.from_numpy(array)
        for (layer, _, part), array in ((name.partition("/"), array) for name, array in arrays.items())
    }
    place = obtain(MEAN, weights)
    mean = _arrays(place).get("mean")
    if mean is None or mean.ndim != 4 or mean.shape[:2] != (3, FRAMES) or min(mean.shape[2:]) < EDGE + SIDE:
        raise GokuError(f"{place} is not C3D's mean clip (3, {FRAMES}, 128, 171). Get it: {MEAN.get}")
    tensors["mean"] = torch.from_numpy(mean[:, :, EDGE : EDGE + SIDE, EDGE : EDGE + SIDE].astype(np.float32))
    return adopt(C3D(), tensors, path, SOURCE).to(device)


def fingerprint(weights: Path) -> str:
    said = "".join(digest(obtain(source, weights)) for source in (SOURCE, MEAN))
    return f"c3d-{hashlib.sha256(said.encode()).hexdigest()[:16]}-float32"


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an .npz, float32 unless they are something else; never unpickles."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise GokuError(f"{path} cannot be read as an .npz of plain arrays: {str(error).splitlines()[0]}") from error
