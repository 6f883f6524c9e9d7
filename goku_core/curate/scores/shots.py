"""Shot boundaries by PySceneDetect, fed with frames that are decoded anyway (paper section 4.4 names the library).

The adaptive detector of PySceneDetect compares a frame's change with that of its neighbours, so camera motion and
shaking do not look like cuts. It decides two frames late; `ShotFinder` holds frames back until the verdict is known,
so that no frame of the next shot is ever counted to the one before. Dissolves are not found: a known
limit of this detector.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

from goku_core.media.decode import Frame, resize

THUMBNAIL_AREA = 128 * 72  # px: changes are compared on frames of about this size
WINDOW = 2  # frames before and after, as the library's default


class ShotFinder:
    """Marks the frames with which a shot begins.

    fps          average frames per second, used for ``min_seconds`` only
    threshold    change of a frame over the mean change of its neighbours
    min_content  least change, mean difference of HSV of 255
    min_seconds  no two cuts within this time
    """

    def __init__(self, fps: Fraction, threshold: float, min_content: float, min_seconds: float) -> None:
        from scenedetect.detectors import AdaptiveDetector

        self._fps = Fraction(fps) if fps > 0 else Fraction(24)
        self._detector = AdaptiveDetector(
            adaptive_threshold=threshold,
            min_scene_len=max(1, round(min_seconds * self._fps)),
            window_width=WINDOW,
            min_content_val=min_content,
        )
        self._fed = 0
        self._factor = 0  # known with the first frame
        self._size: tuple[int, int] | None = None

    def mark(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
        """(frame, whether a shot begins with it), in order. The first frame begins one."""
        waiting: deque[tuple[int, Frame]] = deque()
        cuts: set[int] = {0}
        index = -1
        for index, frame in enumerate(frames):
            waiting.append((index, frame))
            cuts.update(self._feed(frame))
            if len(waiting) > WINDOW:
                number, ready = waiting.popleft()
                yield ready, number in cuts
        if index < 0:
            return
        # The detector needs frames behind a cut to see it: the last one, repeated, uncovers a cut near the end.
        for _ in range(WINDOW):
            cuts.update(self._feed(waiting[-1][1]))
        for number, ready in waiting:
            yield ready, number in cuts

    def _feed(self, frame: Frame) -> list[int]:
        from scenedetect import FrameTimecode

        if self._factor == 0:
            height, width = frame.size
            self._factor = max(1, round((height * width / THUMBNAIL_AREA) ** 0.5))
        image = frame.thumbnail(self._factor)
        if self._size is None:
            self._size = image.shape[:2]
        image = resize(image, *self._size)  # a stream may change its size in the middle
        # The library reads BGR; swapped colours only turn the hue circle around, differences stay.
        found = self._detector.process_frame(FrameTimecode(self._fed, self._fps), image)
        self._fed += 1
        return [cut.frame_num for cut in found]
