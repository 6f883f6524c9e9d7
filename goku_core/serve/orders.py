"""What a client asks for (`Order`) and what it is told (`Ticket`). One shape for the API, the page and the files on disk."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goku_core.orders import MOST_SEED
from goku_core.pipeline.errors import GokuError

Task = Literal["t2i", "t2v", "i2v"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")

# Bounds of the form itself; the limits of a service (`goku_core.serve.limits`) are below them.
LONGEST_PROMPT, LARGEST_SIDE, MOST_FRAMES, MOST_STEPS = 10_000, 8192, 10_001, 1000
SIDE, GROUP = 16, 4  # sides are multiples of 16 px (VAE stride 8, patches of 2); clips have 1 + 4n frames

Side = Annotated[int, Field(ge=SIDE, le=LARGEST_SIDE, multiple_of=SIDE)]
Prompt = Annotated[str, Field(min_length=1, max_length=LONGEST_PROMPT)]


class Order(BaseModel):
    """One picture or clip. What is left out is the model's own. Keys that are not listed here are refused.

    height, width  px, both or none
    guidance       classifier-free guidance; 1 is none. image_guidance: by the first picture (i2v only)
    model          champion, previous, challenger, a version ("3") or at least 12 digits of a bundle's digest; None: the
                   one that the service was started with
    first_frame    i2v only: the id of an upload, or the bytes of a PNG, JPEG or WebP file in base64
    deadline_s     seconds from now after which the result is of no use: the order then fails instead of waiting on
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: Prompt
    task: Task = "t2i"
    frames: Annotated[int, Field(ge=1, le=MOST_FRAMES)] | None = None
    height: Side | None = None
    width: Side | None = None
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] = 0
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None
    guidance: Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)] | None = None
    image_guidance: Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)] | None = None
    negative: Prompt | None = None
    model: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    first_frame: Annotated[str, Field(min_length=1)] | None = None
    deadline_s: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Order:
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width: give both, or neither for the model's own")
        if self.task == "t2i" and self.frames not in (None, 1):
            raise ValueError("frames: t2i draws one picture; ask for t2v or i2v for a clip")
        if self.task != "t2i" and self.frames is not None and (self.frames < 5 or self.frames % GROUP != 1):
            raise ValueError("frames: a clip has a first frame and groups of four: 5, 9, 13, 17, ...")
        if (self.task == "i2v") != (self.first_frame is not None):
            raise ValueError("first_frame: i2v needs it, and the other tasks take none")
        if self.image_guidance is not None and self.task != "i2v":
            raise ValueError("image_guidance: only i2v has a first frame to be guided by")
        if self.guidance == 1.0 and self.negative is not None and self.image_guidance in (None, 1.0):
            raise ValueError("negative: acts through guidance, and guidance 1 is none; give one above 1")
        return self


# cancelled: by the client; deadline: not done in time; shutdown: the service stopped; worker-died: its process ended in the
# middle; out-of-memory; model: the bundle cannot be loaded; refused: the model cannot draw that; internal: a fault of ours
FaultCode = Literal["cancelled", "deadline", "shutdown", "worker-died", "out-of-memory", "model", "refused", "internal"]


class Fault(BaseModel):
    """Why an order failed or was cancelled. code is stable, for programs; message is for people."""

    code: FaultCode
    message: str


class Result(BaseModel):
    """A finished file. seconds: of drawing it, waiting not counted."""

    url: str  # path of the file below the service's root
    media_type: Literal["image/png", "video/mp4"]
    bytes: int
    sha256: str
    height: int
    width: int
    frames: int
    seconds: float


class Ticket(BaseModel):
    """Where an order stands.

    position  how many orders are before it in the queue; 0: next, or running; None: ended
    progress  0 to 1, by solver steps
    eta_s     estimate of the seconds until it is done; None: not known, or ended
    digest    of the bundle that draws it, settled when the order was taken; version: its number in the ledger
    """

    id: str
    state: State
    position: int | None
    progress: float
    eta_s: float | None
    error: Fault | None
    result: Result | None
    task: Task
    seed: int
    model: str
    digest: str
    version: int
    created: str  # UTC, ISO 8601
    started: str | None
    ended: str | None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


class Size(BaseModel):
    height: int
    width: int


class TaskCard(BaseModel):
    """What a model does by default for one task. sizes: what it was trained on first, then others that the limits admit."""

    height: int
    width: int
    frames: int
    fps: float | None
    steps: int
    guidance: float
    sizes: list[Size]


class ModelCard(BaseModel):
    """A promoted model or a candidate, as the ledger has it. loaded: its networks are in memory."""

    version: int
    digest: str
    aliases: list[str]
    decision: str
    score: float
    interval: tuple[float, float]
    protocol: str | None
    tasks: dict[Task, TaskCard]
    loaded: bool


class Upload(BaseModel):
    """A first frame that was taken in. id: SHA-256 of its bytes."""

    id: str
    height: int
    width: int
    bytes: int


class Refused(GokuError):
    """An order that is not taken. status: of HTTP; retry_after: seconds after which it may be taken, None: never as it is."""

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after
