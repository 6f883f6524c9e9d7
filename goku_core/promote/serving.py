"""A registered version as MLflow serves it: `mlflow models serve -m models:/goku@champion --env-manager local`.

MLflow asks for a table, one row per picture or clip, and gets a table back with the file of each row in base64. This is
the convenience for who serves everything by MLflow: it has neither queue nor progress, `goku serve` has both.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle, signature

if TYPE_CHECKING:
    import pandas as pd

    from goku_core.generate import Generator

COLUMNS = {
    "prompt": "text", "negative": "text", "first_frame": "text", "frames": "whole", "height": "whole", "width": "whole",
    "seed": "whole", "steps": "whole", "guidance": "number", "image_guidance": "number",
}  # fmt: skip
"""Columns of the table asked: `prompt` is needed, the others are the model's own where they are left out. first_frame: a
picture file in base64, and then the row is a clip that goes on from it; frames above 1: a clip from text."""

RESULT = {"media": "text", "data": "text", "task": "text", "seed": "whole", "model": "text"}
"""Columns of the answer. media: MIME type; data: base64 of the PNG or MP4 file; model: the bundle's digest."""

MOST_ROWS = 16
MOST_PIXELS = 2**27  # height x width x frames of all rows: 145 frames of 1280x720
LEAST_FRAMES, GROUP, SIDE = 5, 4, 16


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid")

    prompt: Annotated[str, Field(min_length=1, max_length=10_000)]
    negative: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None
    first_frame: str | None = None
    frames: Annotated[int, Field(ge=1)] | None = None
    height: Annotated[int, Field(ge=SIDE, multiple_of=SIDE)] | None = None
    width: Annotated[int, Field(ge=SIDE, multiple_of=SIDE)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance: Annotated[float, Field(ge=0.0, le=100.0)] | None = None
    image_guidance: Annotated[float, Field(ge=0.0, le=100.0)] | None = None

    @property
    def task(self) -> str:
        if self.first_frame is not None:
            return "i2v"
        return "t2v" if (self.frames or 1) > 1 else "t2i"


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Served:
    """MLflow's entry. Raises GokuError unless every byte is that of the bundle the registry names, and it is signed where
    promote.trusted_keys of a params.yaml here, or GOKU_TRUSTED_KEYS, demand it."""
    folder, digest = Path(path), str((model_config or {}).get("bundle", ""))
    bundle.verify(folder, digest)
    signature.check(folder, digest, signature.trusted(Path.cwd()))
    return Served(folder, digest)


class Served:
    """A verified bundle. One request draws at a time; a model is loaded when its task is first asked for."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder, self.digest = folder, digest
        self._generators: dict[str, Generator] = {}
        self._alone = threading.Lock()

    def predict(self, table: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """One answer per row. Raises GokuError naming the row that cannot be drawn, before any is."""
        import pandas as pd

        if len(table) > MOST_ROWS:
            raise GokuError(f"{len(table)} rows; a request may have {MOST_ROWS}. Send several.")
        rows = [_row(number, asked) for number, asked in enumerate(table.to_dict("records"))]
        with self._alone, tempfile.TemporaryDirectory(prefix="goku-") as place:
            jobs = [self._job(number, row, Path(place)) for number, row in enumerate(rows)]
            if (pixels := sum(terms.height * terms.width * terms.frames for _, terms in jobs)) > MOST_PIXELS:
                raise GokuError(f"{pixels} pixels; a request may ask for {MOST_PIXELS}. Send several, or smaller ones.")
            answers = [self._draw(row, *job) for row, job in zip(rows, jobs, strict=True)]
        return pd.DataFrame(answers, columns=list(RESULT))

    def _generator(self, task: str) -> Generator:
        from goku_core.generate import Generator

        if task not in self._generators:
            self._generators[task] = Generator.from_bundle(self.folder, task)
        return self._generators[task]

    def _job(self, number: int, row: Row, place: Path) -> tuple[Any, Any]:
        from goku_core.orders import Order, Terms, described

        generator, clip = self._generator(row.task), row.task != "t2i"
        out = place / f"{number}.{'mp4' if clip else 'png'}"
        image = _first_frame(number, row.first_frame, place) if row.first_frame is not None else None
        sampling = generator.sampling
        image_guidance = row.image_guidance
        if image_guidance is None and image is not None:
            image_guidance = sampling.get("image_guidance")
        terms = Terms(
            model=self.digest,
            height=row.height or generator.size[0],
            width=row.width or generator.size[1],
            frames=(row.frames or max(generator.frames, LEAST_FRAMES)) if clip else 1,
            steps=row.steps or sampling["steps"],
            guidance=float(sampling["guidance"] if row.guidance is None else row.guidance),
            fps=float(generator.fps) if clip else None,
            image_guidance=image_guidance,
        )
        order = Order(row.prompt, row.seed, out, row.negative, image)
        described(order, terms)  # reads the first picture: an unreadable one is told before anything is drawn
        return order, terms

    def _draw(self, row: Row, order: Any, terms: Any) -> list[Any]:
        from goku_core.media.credentials import Signer
        from goku_core.orders import draw

        draw(self._generator(row.task), [order], terms, Signer.from_environment())
        data = base64.b64encode(order.out.read_bytes()).decode()
        media = "video/mp4" if order.out.suffix == ".mp4" else "image/png"
        return [media, data, row.task, row.seed, self.digest]


def _row(number: int, asked: Mapping[str, Any]) -> Row:
    # pandas has a number that is none where a row leaves a column out
    given = {str(name): value for name, value in asked.items() if value is not None and value == value}
    try:
        row = Row.model_validate(given)
    except ValidationError as error:
        fault = error.errors()[0]
        raise GokuError(f"row {number}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}.") from error
    if row.frames is not None and row.frames > 1 and (row.frames < LEAST_FRAMES or row.frames % GROUP != 1):
        raise GokuError(f"row {number}: {row.frames} frames; clips have 5, 9, 13, 17, ... frames.")
    if row.first_frame is not None and row.frames == 1:
        raise GokuError(f"row {number}: first_frame begins a clip, which has 5 frames or more.")
    return row


def _first_frame(number: int, text: str, place: Path) -> Path:
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise GokuError(f"row {number}: first_frame is not base64 of a picture file.") from error
    image = place / f"{number}.first"
    image.write_bytes(content)
    return image
