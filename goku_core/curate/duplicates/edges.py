"""The last look at two clips that are alike in coarse tiles: do the edges of their frames lie in the same places?

Coarse tiles do not see whether a yellow thing before a green ground is a star or a circle; its outline does. The clips are
first laid over one another (a crop is known by its window to a few hundredths only), then the gradients of all their common
frames are compared as one field: the cosine of the two. It does not change with brightness or contrast, a logo in a corner
is as much of it as it is of all edges, and of a plain picture the thing on it is nearly all.
"""

from __future__ import annotations

import numpy as np

from goku_core.curate.scores.resemblance import LUMA, Window

STEPS = 4  # Gauss-Newton, while clips are laid over one another
SMOOTH = 2  # binomial passes over what is laid: its gradients then reach over a tile
STIFF = 1.0  # keeps shift and stretch small where a picture has no edges to hold on to
FARTHEST = 1.5  # tiles of shift from where the window lies: more is another picture
SCALES = 0.85, 1.02  # side of what is shown, of the whole
LEAST_CONTRAST = 2.0  # levels
# Squared levels of a gradient: what rounding leaves. Clips with no more than that have no edges to tell apart.
ROUNDING = 0.25


def compared(a: np.ndarray, b: np.ndarray, both: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Cosine of the edges of clips ``a[i]`` and of what about ``window`` shows of ``b[i]``, and the side of that, of b's side.

    Both float64 (n,).

    a, b  float64 (n, T, LUMA, LUMA), frames of the same moments
    both  bool (n, T): where both have a frame
    """
    weight = both[..., None, None].astype(np.float64)
    frames = np.maximum(both.sum(1), 1)[:, None, None]
    offset, scale = _laid((a * weight).sum(1) / frames, (b * weight).sum(1) / frames, window)
    rows, columns = _weights(offset, scale)
    fields_a, fields_b = _gradients(a * weight), _gradients(_moved(b * weight, rows[:, None], columns[:, None]))
    floor = ROUNDING * frames[:, 0, 0] * 2 * LUMA * (LUMA - 1)
    common, own_a, own_b = (
        sum((f * g).sum((1, 2, 3)) for f, g in zip(first, second, strict=True)) + floor
        for first, second in ((fields_a, fields_b), (fields_a, fields_a), (fields_b, fields_b))
    )
    return common / np.sqrt(own_a * own_b), scale.mean(1)


def _laid(a: np.ndarray, b: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Where ``a`` lies in ``b``, near the window: offset and scale, float64 (n, 2), rows and columns, in sides of b."""
    start = np.array([window.share * window.y, window.share * window.x])
    offset = np.tile(start, (len(a), 1))
    scale = np.full((len(a), 2), 1.0 - window.share)
    goal, whole = _unit(_smooth(a)), _smooth(b)
    place = (np.arange(LUMA) + 0.5) / LUMA - 0.5
    for _ in range(STEPS):
        found = _unit(_moved(whole, *_weights(offset, scale)))
        down, right = np.gradient(found, axis=(1, 2))
        # Shift and stretch of rows, then of columns, in tiles.
        basis = np.stack([down, down * place[:, None], right, right * place], axis=1).reshape(len(a), 4, LUMA * LUMA)
        normal = basis @ basis.transpose(0, 2, 1) + STIFF * np.eye(4)
        step = np.linalg.solve(normal, basis @ (goal - found).reshape(len(a), LUMA * LUMA, 1))[..., 0]
        shift, stretch = step[:, ::2] / LUMA, step[:, 1::2] / LUMA
        offset = offset + scale * (shift - stretch / 2)
        scale = np.clip(scale * (1 + stretch), *SCALES)
        offset = np.clip(offset, start - FARTHEST / LUMA, start + FARTHEST / LUMA)
    return offset, scale


def _weights(offset: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of rows and of columns, see `_reading`."""
    return _reading(offset[:, 0], scale[:, 0]), _reading(offset[:, 1], scale[:, 1])


def _reading(offset: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(n, LUMA, LUMA): weights of cubic interpolation (Catmull-Rom), which blurs little, between the centres of tiles."""
    centres = (np.arange(LUMA) + 0.5) / LUMA
    x = np.clip((offset[:, None] + scale[:, None] * centres) * LUMA - 0.5, 0, LUMA - 1)
    d = np.abs(x[:, :, None] - np.arange(LUMA))
    inner, outer = (1.5 * d - 2.5) * d * d + 1, ((2.5 - 0.5 * d) * d - 4) * d + 2
    weights = np.where(d < 1, inner, np.where(d < 2, outer, 0.0))
    return weights / weights.sum(2, keepdims=True)


def _moved(b: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return rows @ b @ columns.swapaxes(-1, -2)


def _smooth(x: np.ndarray) -> np.ndarray:
    """(n, LUMA, LUMA), each tile with a quarter of its neighbours, again and again."""
    for _ in range(SMOOTH):
        for axis in (1, 2):
            padded = np.pad(x, [(1, 1) if own == axis else (0, 0) for own in range(3)], mode="edge")
            low, middle, high = (padded.take(range(k, k + LUMA), axis) for k in range(3))
            x = 0.25 * low + 0.5 * middle + 0.25 * high
    return x


def _unit(x: np.ndarray) -> np.ndarray:
    """Mean 0, deviation 1, each picture."""
    centred = x - x.mean((1, 2), keepdims=True)
    return centred / np.maximum(centred.std((1, 2), keepdims=True), LEAST_CONTRAST)


def _gradients(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.diff(x, axis=2), np.diff(x, axis=3)
