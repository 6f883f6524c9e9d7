"""How much of a picture is covered with text: area of the largest text box over the area of the frame (paper 4.5).

RapidOCR (PP-OCRv6, models inside its wheel) on ONNX Runtime, one thread. The paper's OCR model is internal.

Two steps. Detection runs on every picture, at 288 px long side: measured on 120 procedural scenes and 60 captioned
ones, one core: 320 px 33 ms, 288 px 21 ms, 256 px 15 ms a picture; 256 px and less missed covered pictures, 288 px
found all. Batches gave no gain. Detection alone is no verdict: it takes shapes for letters (a third to a half of the
scenes above a coverage of 0.02). So boxes above `confirm_above`, largest first, are read by the recogniser at full
resolution: a box is text when it reads as at least two letters or digits with confidence 0.6. That left 0 false of 120
and lost none. Smaller boxes cannot change the verdict and are not read; they count as they are, below the threshold.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

LONG_SIDE = 288  # px, the detector's input; a multiple of 32
CONFIDENCE = 0.6
LEAST_CHARACTERS = 2
MOST_READ = 6  # boxes read per picture: bounds the cost of a page full of shapes


class TextMeter:
    """Holds detector and recogniser; about 0.4 s to load."""

    def __init__(self, long_side: int = LONG_SIDE) -> None:
        from rapidocr.ch_ppocr_det import TextDetector
        from rapidocr.ch_ppocr_rec import TextRecognizer

        self._detect = TextDetector(_part("Det", limit_type="max", limit_side_len=long_side))
        self._recognise = TextRecognizer(_part("Rec"))

    def coverage(self, rgb: np.ndarray, confirm_above: float) -> float:
        """0 to 1. rgb: uint8 (H, W, 3); ``confirm_above``: the smallest coverage that could reject."""
        boxes, shares = self._boxes(rgb)
        confirmed = 0.0
        for index in np.argsort(-shares, kind="stable")[:MOST_READ]:
            if shares[index] <= confirm_above:
                break
            if self._reads(rgb, boxes[index]):
                confirmed = float(shares[index])
                break
        small = shares[shares <= confirm_above]
        return max(confirmed, float(small.max(initial=0.0)))

    def _boxes(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = self._detect(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        if found.boxes is None or len(found.boxes) == 0:
            return np.empty((0, 4, 2), np.float32), np.empty(0)
        boxes = np.asarray(found.boxes, np.float32)
        area = rgb.shape[0] * rgb.shape[1]
        return boxes, np.array([cv2.contourArea(box) / area for box in boxes])

    def _reads(self, rgb: np.ndarray, box: np.ndarray) -> bool:
        from rapidocr.ch_ppocr_rec import TextRecInput
        from rapidocr.utils.process_img import get_rotate_crop_image

        crop = get_rotate_crop_image(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), box.copy())
        if crop is None or min(crop.shape[:2]) < 2:
            return False
        result = self._recognise(TextRecInput(img=[crop]))
        if not result.txts:
            return False
        characters = sum(character.isalnum() for character in result.txts[0])
        return characters >= LEAST_CHARACTERS and result.scores[0] >= CONFIDENCE


def _part(name: str, **settings: Any) -> Any:
    """One part of RapidOCR's configuration, set to one thread and to the models inside the package."""
    from rapidocr import main
    from rapidocr.utils.log import logger
    from rapidocr.utils.parse_parameters import ParseParams

    logger.setLevel(logging.ERROR)
    config = ParseParams.load(main.DEFAULT_CFG_PATH)
    changes = {f"{name}.{key}": value for key, value in settings.items()}
    engine = "EngineConfig.onnxruntime"
    changes |= {f"{engine}.intra_op_num_threads": 1, f"{engine}.inter_op_num_threads": 1}
    config = ParseParams.update_batch(config, changes)
    part = config[name]
    part.engine_cfg = config.EngineConfig[part.engine_type.value]
    part.model_root_dir = main.root_dir / "models"
    part.font_path = None
    return part


@lru_cache(maxsize=1)
def text_meter() -> TextMeter:
    """The meter of this process, loaded once."""
    return TextMeter()
