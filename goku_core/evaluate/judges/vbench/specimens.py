"""Built-in pictures and clips with known answers, on which judges are tried before they judge anybody."""

from __future__ import annotations

import cv2
import numpy as np

from goku_core.scenes.draw import draw
from goku_core.scenes.scene import Scene, Thing

HEIGHT, WIDTH = 256, 448


def picture(shape: str = "circle", color: str = "red", x: float = 0.5) -> np.ndarray:
    """One thing on grey: uint8 (256, 448, 3) RGB. x: its centre in widths."""
    return draw(Scene("single_object", (Thing(shape, color, x, 0.5, 0.5),)), HEIGHT, WIDTH)


def shapes() -> np.ndarray:
    """A picture full of edges: uint8 (256, 448, 3)."""
    kinds = (("circle", "red"), ("star", "yellow"), ("triangle", "blue"), ("square", "green"))
    things = tuple(Thing(shape, color, 0.14 + 0.24 * place, 0.5, 0.36) for place, (shape, color) in enumerate(kinds))
    return draw(Scene("counting", things), HEIGHT, WIDTH)


def texture(seed: int = 0, width: int = WIDTH) -> np.ndarray:
    """Coloured blotches of 4 to 64 px, which a flow can hold on to: uint8 (256, width, 3)."""
    rng = np.random.default_rng(seed)
    layers = []
    for cell in (4, 16, 64):
        coarse = rng.normal(0.0, 1.0, (HEIGHT // cell, width // cell, 3)).astype(np.float32)
        layers.append(cv2.resize(coarse, (width, HEIGHT), interpolation=cv2.INTER_CUBIC))
    return np.clip(128.0 + 40.0 * np.sum(layers, axis=0), 0, 255).astype(np.uint8)


def still(frame: np.ndarray, frames: int = 3) -> np.ndarray:
    return np.repeat(frame[None], frames, axis=0)


def passing(step: int, frames: int = 3) -> np.ndarray:
    """The texture moving ``step`` px to the left from frame to frame, new parts coming in: uint8 (frames, 256, 448, 3)."""
    long = texture(width=WIDTH + 64 * -(-step * frames // 64))
    return np.stack([long[:, step * number : step * number + WIDTH] for number in range(frames)])


def blurred(frame: np.ndarray, deviation: float) -> np.ndarray:
    """deviation: of the Gaussian, px."""
    return cv2.GaussianBlur(frame, (0, 0), deviation)
