"""What stands where on the page, and which action belongs to which button."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from goku_core.serve.desk import Desk
from goku_core.serve.orders import ModelCard
from goku_core.serve.page import choices, figures
from goku_core.serve.page.actions import Actions

HERE = Path(__file__).parent
STYLE = HERE / "page.css"
PURPOSE = "Pictures and clips from the models of this workspace, each with what made it."
MOST_SEED = 2**53 - 1  # whole numbers that a browser holds exactly
ANOTHER_SEED = "() => Math.floor(Math.random() * 2 ** 31)"
# On a narrow screen the results stand below the form, out of sight.
TO_RESULTS = (
    "() => { if (innerWidth < 800) document.querySelector('#results').scrollIntoView({ behavior: 'smooth' }); }"
)
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def theme() -> gr.themes.Base:
    """Fonts of the reader's machine: nothing is fetched from elsewhere."""
    base = gr.themes.Base(
        primary_hue="orange",
        neutral_hue="zinc",
        radius_size="md",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return base.set(  # at least 4.5 to 1 between text and ground, as WCAG 2.2 AA asks
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        slider_color="*primary_600",
        checkbox_background_color_selected="*primary_600",
    )


def build(desk: Desk) -> gr.Blocks:
    """The page of a desk. What the form offers is read anew each time the page is opened."""
    actions, limits = Actions(desk), desk.limits
    with gr.Blocks(title="goku serve", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(f"<header><h1>Goku</h1><p>{PURPOSE}</p></header>", elem_id="head")
        first, tickets, past = gr.State(None), gr.State([]), gr.State([])
        with gr.Row(elem_id="desk"):
            with gr.Column(scale=2, min_width=320, elem_id="form"):
                prompt = gr.Textbox(
                    label="Prompt",
                    placeholder="a red circle left of a blue square",
                    lines=3,
                    max_lines=8,
                    max_length=limits.prompt,
                )
                kind = gr.Radio([("Picture", "t2i")], value="t2i", label="What to make")
                frame = gr.HTML(
                    value="",
                    html_template=(HERE / "frame.html").read_text(encoding="utf-8"),
                    js_on_load=(HERE / "frame.js").read_text(encoding="utf-8"),
                    most=limits.upload_bytes,
                    visible=False,
                    elem_id="frame",
                )
                with gr.Row():
                    size = gr.Dropdown([], label="Size", info="height x width, px", min_width=140)
                    seed = gr.Number(
                        0, label="Seed", info="same seed, same picture", precision=0, minimum=0, maximum=MOST_SEED,
                        min_width=140,
                    )  # fmt: skip
                frames = gr.Slider(5, 17, step=4, value=17, label="Frames", visible=False)
                with gr.Row(elem_id="go"):
                    draw = gr.Button("Draw", variant="primary", min_width=120)
                    another = gr.Button("Draw another", min_width=120)
                    cancel = gr.Button("Cancel", interactive=False, min_width=90, variant="stop")
                compare = gr.Button("Compare champion and challenger")
                with gr.Accordion("Model and settings", open=True):
                    model = gr.Dropdown([], label="Model")
                    steps = gr.Slider(1, limits.steps, step=1, value=20, label="Steps", info="of the solver")
                    guidance = gr.Slider(
                        1, 15, step=0.5, value=3, label="Guidance", info="how closely the prompt is followed; 1 is none"
                    )
            with gr.Column(scale=3, min_width=320, elem_id="results"):
                status = gr.HTML(figures.said("Ready."), elem_id="status")
                with gr.Row(elem_id="drawings"):
                    left = gr.HTML(figures.nothing(), elem_id="left", js_on_load=_copying(), min_width=260)
                    right = gr.HTML("", elem_id="right", js_on_load=_copying(), visible=False, min_width=260)
                seen = gr.HTML("", elem_id="seen", js_on_load=_showing())

        form = [prompt, kind, size, frames, seed, steps, guidance, model, first]
        parts = [status, left, right, tickets, past, seen, draw, another, compare, cancel]
        settings = [kind, size, frames, steps, guidance, frame]
        watched: dict[str, Any] = {**QUIET, "concurrency_limit": 2 * limits.queue + 8}

        for button in (draw, another, compare):
            button.click(None, js=TO_RESULTS, **QUIET)
        draw.click(actions.draw, [*form, past], parts, **watched)
        prompt.submit(actions.draw, [*form, past], parts, **watched)
        another.click(None, None, seed, js=ANOTHER_SEED, **QUIET).then(actions.draw, [*form, past], parts, **watched)
        compare.click(actions.compare, [*form, past], parts, **watched)
        cancel.click(actions.cancel, tickets, None, **QUIET)
        frame.upload(actions.take_frame, frame, [first, frame, status], **QUIET)
        frame.clear(lambda: None, None, first, **QUIET)
        seen.select(actions.show, past, [left, right], **QUIET)

        def offered(name: str, task: str) -> Any:
            return _offered(desk, name, task)

        def opened() -> Any:
            cards = desk.models()
            named = choices.names(cards)
            name = named[0][1] if named else None
            return gr.update(choices=named, value=name), *_offered(desk, name, "t2i", cards)

        kind.input(offered, [model, kind], settings, **QUIET)
        model.input(offered, [model, kind], settings, **QUIET)
        page.load(opened, None, [model, *settings], **QUIET)
    page.queue(max_size=2 * limits.queue + 8, default_concurrency_limit=8, status_update_rate=10)
    return page


def _offered(desk: Desk, name: Any, task: Any, cards: list[ModelCard] | None = None) -> tuple[Any, ...]:
    """Kind, size, frames, steps, guidance and drop zone as the model has them for that task."""
    card = choices.named(desk.models() if cards is None else cards, str(name))
    if card is None or not card.tasks:
        return (gr.skip(),) * 6
    task = task if task in card.tasks else choices.kinds(card)[0][1]
    own = card.tasks[task]
    count, most = choices.frames(own, desk.limits)
    sizes = choices.sizes(own)
    return (
        gr.update(choices=choices.kinds(card), value=task),
        gr.update(choices=sizes, value=sizes[0][1]),
        gr.update(visible=task != "t2i", maximum=most, value=count, info=choices.pace(own.fps)),
        gr.update(value=min(own.steps, desk.limits.steps)),
        gr.update(value=own.guidance),
        gr.update(visible=task == "i2v"),
    )


def _copying() -> str:
    """The button beside a command puts it on the clipboard, or selects it where the browser gives no clipboard."""
    return (HERE / "copy.js").read_text(encoding="utf-8")


def _showing() -> str:
    return (
        "element.addEventListener('click', (event) => { const one = event.target.closest('[data-show]'); "
        "if (one) trigger('select', { ticket: one.dataset.show }); });"
    )
