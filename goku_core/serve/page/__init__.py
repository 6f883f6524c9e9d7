"""The page of `goku serve`: a person types a prompt or drops a first frame, watches it being drawn, sees what made it.

layout.py      what stands where, and which action belongs to which button
choices.py     what the form offers, read off the models
actions.py     draw, compare, cancel, take a first frame
provenance.py  what is known of a finished file: model, decision, data, settings, command
figures.py     the HTML of one result, of its provenance, of the history
doors.py       which of Gradio's addresses are open, and to what

The page calls the desk in process. Gradio takes no file and gives out none: a first frame comes as text with the form,
results are fetched from the service itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from goku_core.serve.desk import Desk


def mount(app: FastAPI, desk: Desk) -> None:
    """Put the page at / of the application, behind its doors. To be called last: it answers whatever no route before it does."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import gradio as gr

    from goku_core.serve.page.doors import Doors
    from goku_core.serve.page.layout import STYLE, build, theme

    gr.mount_gradio_app(
        app,
        build(desk),
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        show_error=False,
        max_file_size=1,  # byte: nothing is uploaded to Gradio, and its upload address is closed
        theme=theme(),
        css_paths=[STYLE],
    )
    route = app.router.routes[-1]
    route.app = Doors(route.app)  # type: ignore[attr-defined]
