"""The service over HTTP: /v1/..., /healthz, /readyz, /metrics, /docs, and the page at /."""

from __future__ import annotations

import importlib.util

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from goku_core.serve.desk import Desk

INSTALL = 'pip install -c constraints.txt -e ".[serve]"'


def make_app(desk: Desk, page: bool = True) -> FastAPI:
    """The application of a desk. page: mount the page at / where gradio is installed."""
    app = FastAPI(title="goku serve", docs_url=None, redoc_url=None)
    if page and importlib.util.find_spec("gradio") is not None:
        from goku_core.serve.page import mount

        mount(app, desk)
    else:

        @app.get("/", include_in_schema=False)
        def no_page() -> HTMLResponse:
            why = f"The page needs gradio: <code>{INSTALL}</code>" if page else "The page is off (--no-page)."
            return HTMLResponse(f"<p>goku serve. {why} The API is described in <a href='/docs'>/docs</a>.</p>")

    return app
