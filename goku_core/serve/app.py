"""The service over HTTP: /v1/..., /healthz, /readyz, /metrics, /docs, and the page at /."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from jinja2 import Environment, FileSystemLoader
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from goku_core import __version__
from goku_core.serve.archive import log
from goku_core.serve.desk import Desk
from goku_core.serve.follow import ended, events
from goku_core.serve.guard import Guard
from goku_core.serve.orders import ModelCard, Order, Refused, Ticket, Upload

INSTALL = 'pip install -c constraints.txt -e ".[serve]"'
LONGEST_WAIT = 300.0  # s of a request that waits for its result: proxies end longer ones
PICTURES = ("image/png", "image/jpeg", "image/webp")
DESCRIPTION = (
    "Pictures and clips drawn by promoted models. Post an order, follow its ticket, fetch the file. The same order gives the "
    "same bytes."
)


class FaultAt(BaseModel):
    at: str
    message: str


class Refusal(BaseModel):
    """code is stable, for programs; faults: of each key, where a request does not have its form."""

    code: str
    message: str
    faults: list[FaultAt] = []


class Refusals(BaseModel):
    error: Refusal


class Models(BaseModel):
    default: str
    models: list[ModelCard]


class Readiness(BaseModel):
    ready: bool
    because: str | None = None


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Refusals} for status in statuses}


Seconds = Annotated[float, Query(ge=0.0, le=LONGEST_WAIT, description="wait so long for the end before answering")]


def make_app(desk: Desk, page: bool = True, token: str | None = None, hosts: Collection[str] = ()) -> FastAPI:
    """The application of a desk.

    page         mount the page at / where gradio is installed
    token, hosts see `Guard`
    """
    app = FastAPI(
        title="goku serve", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None,
        openapi_url="/openapi.json", responses=answers(401, 403) if token else answers(403),
    )  # fmt: skip
    most = desk.limits.upload_bytes * 4 // 3 + 2**16  # a picture in base64, and the order around it
    app.add_middleware(Guard, token=token, hosts=hosts, most=most)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _internal)
    _generations(app, desk)
    _around(app, desk)
    _documents(app)
    if page and importlib.util.find_spec("gradio") is not None:
        from goku_core.serve.page import mount

        mount(app, desk)
    else:
        _no_page(app, page)
    return app


def _generations(app: FastAPI, desk: Desk) -> None:
    one = "/v1/generations/{id}"

    @app.post(
        "/v1/generations", status_code=202, responses={200: {"model": Ticket}, **answers(400, 404, 413, 422, 429, 503)}
    )
    async def generate(
        request: Request, response: Response, order: Annotated[Order, Body()], wait: Seconds = 0.0
    ) -> Ticket:
        """Take an order: 202 with its ticket, or 200 with the ticket at its end where that came within `wait` seconds."""
        ticket = await run_in_threadpool(desk.submit, order, _client(request))
        response.headers["Location"] = f"/v1/generations/{ticket.id}"
        if wait:
            ticket = await ended(desk, ticket.id, wait)
            response.status_code = 200 if ticket.has_ended else 202
        return ticket

    @app.get(one, responses=answers(404, 422))
    async def ticket(id: str, wait: Seconds = 0.0) -> Ticket:
        """Where an order stands; at once, or at its end where that comes within `wait` seconds."""
        return await ended(desk, id, wait) if wait else desk.ticket(id)

    @app.delete(one, responses=answers(404, 422))
    def cancel(id: str) -> Ticket:
        """Call an order off, waiting or running. One that runs ends after its present solver step."""
        return desk.cancel(id)

    @app.get(
        f"{one}/file",
        response_class=FileResponse,
        responses={
            200: {"content": {"image/png": {}, "video/mp4": {}}, "description": "PNG or MP4"},
            **answers(404, 409, 422),
        },
    )
    def file(id: str) -> FileResponse:
        """The picture or clip, with its provenance (and credentials, where the service signs) inside."""
        path = desk.file(id)
        kind = "image/png" if path.suffix == ".png" else "video/mp4"
        return FileResponse(path, media_type=kind, filename=f"{id}{path.suffix}", content_disposition_type="inline")

    @app.get(f"{one}/provenance", responses=answers(404, 409, 422))
    def provenance(id: str) -> dict[str, Any]:
        """Everything the result came from, and the order and the command that draw the same again."""
        return desk.provenance(id)

    @app.get(
        f"{one}/events",
        response_class=StreamingResponse,
        responses={
            200: {"content": {"text/event-stream": {}}, "description": "a ticket per change"},
            **answers(404, 422),
        },
    )
    async def follow(id: str) -> StreamingResponse:
        """Server-sent events: the ticket at every change (each solver step is one), the last when it has ended."""
        desk.ticket(id)  # 404 now, and not in the middle of a stream
        return StreamingResponse(
            events(desk, id), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )


def _around(app: FastAPI, desk: Desk) -> None:
    @app.get("/v1/models", responses=answers(503))
    def models() -> Models:
        """Every model that can be named in an order, newest first; `default` draws orders that name none."""
        return Models(default=desk.model, models=desk.models())

    pictures = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURES}

    @app.post(
        "/v1/uploads",
        status_code=201,
        responses=answers(413, 415, 422),
        openapi_extra={"requestBody": {"required": True, "content": pictures}},
    )
    async def upload(request: Request) -> Upload:
        """Take a first frame: the bytes of a PNG, JPEG or WebP file as the body. Its id goes into an order's `first_frame`."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in PICTURES:
            raise Refused(415, "upload-type", f"Send a picture with Content-Type: {', '.join(PICTURES)}.")
        return await run_in_threadpool(desk.upload, await request.body())

    @app.get(
        "/v1/uploads/{id}",
        response_class=FileResponse,
        responses={
            200: {"content": {kind: {} for kind in PICTURES}, "description": "the picture"},
            **answers(404, 422),
        },
    )
    def uploaded(id: str) -> FileResponse:
        """The bytes of a first frame as they came."""
        path = desk.upload_file(id)
        return FileResponse(
            path, media_type={".png": PICTURES[0], ".jpg": PICTURES[1], ".webp": PICTURES[2]}[path.suffix]
        )

    @app.get("/healthz", responses={})
    async def healthz() -> dict[str, str]:
        """The process answers. The only path that asks for no token."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: {"model": Readiness}})
    async def readyz(response: Response) -> Readiness:
        """Is the default model loaded, and are orders taken?"""
        ready, because = desk.ready, desk.unready_because
        response.status_code = 200 if ready else 503
        return Readiness(ready=ready, because=None if ready else because)

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "in the form of Prometheus"}},
    )
    def metrics() -> Response:
        return Response(desk.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _documents(app: FastAPI) -> None:
    template = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("docs.html.j2")

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        """The API on one page, made from its own description; it loads nothing from anywhere."""
        return HTMLResponse(template.render(api=app.openapi()))


def _no_page(app: FastAPI, wanted: bool) -> None:
    why = f"The page needs gradio: <code>{INSTALL}</code>" if wanted else "The page is off (--no-page)."

    @app.get("/", include_in_schema=False)
    def no_page() -> HTMLResponse:
        return HTMLResponse(f"<!doctype html><title>goku serve</title><p>{why} The API: <a href='docs'>docs</a>.</p>")


def _client(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _answer(status: int, refusal: Refusal, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(Refusals(error=refusal).model_dump(), status, headers)


async def _refused(request: Request, error: Any) -> JSONResponse:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
    return _answer(error.status, Refusal(code=error.code, message=str(error)), headers)


async def _malformed(request: Request, error: Any) -> JSONResponse:
    """What was given is not repeated: it may be long, or not be writable as JSON."""
    faults = [
        FaultAt(
            at=".".join(str(part) for part in one["loc"][1:]) or "body",
            message=one["msg"].removeprefix("Value error, "),
        )
        for one in error.errors()
    ]
    message = "; ".join(f"{fault.at}: {fault.message}" for fault in faults[:5])
    return _answer(422, Refusal(code="invalid", message=message, faults=faults))


async def _http(request: Request, error: Any) -> JSONResponse:
    return _answer(error.status_code, Refusal(code="http", message=str(error.detail)), error.headers)


async def _internal(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed: %s", request.method, request.url.path, type(error).__name__)
    return _answer(500, Refusal(code="internal", message="A fault of the service; its log says where."))
