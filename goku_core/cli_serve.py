"""`goku serve`: promoted models over HTTP, with a page for people."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need a token")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that is free")] = 7860,
    model: Annotated[
        str, typer.Option(help="Draws orders that name none: champion, challenger, previous, a version, a digest")
    ] = "champion",
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda or cuda:N")] = "auto",
    queue: Annotated[int, typer.Option(min=1, help="Orders that wait; one more is refused (429)")] = 64,
    per_client: Annotated[int, typer.Option(min=1, help="Orders of one client that wait or run")] = 16,
    max_side: Annotated[int, typer.Option(min=16, help="Largest picture side, px")] = 1280,
    max_frames: Annotated[int, typer.Option(min=1, help="Longest clip")] = 129,
    max_steps: Annotated[int, typer.Option(min=1, help="Most solver steps")] = 100,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Most tokens of one order: (1 + (frames - 1) / 4) * height / 16 * width / 16")
    ] = 120_000,
    max_prompt: Annotated[int, typer.Option(min=1, help="Longest prompt, characters")] = 2000,
    max_upload: Annotated[int, typer.Option(min=1, help="Largest first frame, MB")] = 16,
    deadline: Annotated[float, typer.Option(min=1.0, help="Longest that an order may wait and run, s")] = 600.0,
    memory: Annotated[
        int | None, typer.Option(min=64, help="End the worker above so many MB [default: no bound]")
    ] = None,
    loaded: Annotated[int, typer.Option(min=1, help="Networks in memory at once; each task of a bundle has one")] = 6,
    keep: Annotated[int, typer.Option(min=1, help="Finished orders that are kept")] = 1000,
    keep_hours: Annotated[float, typer.Option(min=0.01, help="and for how long")] = 72.0,
    grace: Annotated[float, typer.Option(min=0.0, help="Seconds that a running order gets at SIGTERM")] = 30.0,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that clients must show [default: GOKU_SERVE_TOKEN]")
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A name under which the service may be called, such as that of a proxy")
    ] = None,
    proxy: Annotated[
        list[str] | None, typer.Option(help="Address of a proxy whose X-Forwarded-For is believed")
    ] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="The API alone")] = False,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Let prompts stand in the log")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the address as a line of JSON once it listens")
    ] = False,
) -> None:
    """Draw pictures and clips for whoever asks over HTTP, with the models that the ledger names.

    Runs until it is interrupted. What is asked for is kept in .goku/serve: results outlive a restart.

    Example: goku serve --port 7860 --queue 32
    """
    from goku_core.media.credentials import Signer
    from goku_core.serve.app import make_app
    from goku_core.serve.desk import Desk
    from goku_core.serve.guard import read_token, require_guarded
    from goku_core.serve.limits import Limits
    from goku_core.serve.server import listening
    from goku_core.serve.server import serve as answer

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("goku.serve").setLevel(logging.INFO)
    token = read_token(token_file)
    require_guarded(host, token, port)
    Signer.from_environment()  # what is wrong with a key is said before anything is taken
    limits = Limits(
        queue=queue, per_client=per_client, side=max_side, frames=max_frames, steps=max_steps, tokens=max_tokens,
        prompt=max_prompt, upload_bytes=max_upload * 2**20, deadline_s=deadline, memory_mb=memory, loaded=loaded, kept=keep,
        kept_hours=keep_hours,
    )  # fmt: skip
    desk = Desk(Path.cwd(), limits, device, model, log_prompts)
    sock = listening(host, port)
    try:
        desk.open()
        url = f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"

        def listens() -> None:
            said = {"url": url, "token": token is not None}
            typer.echo(json.dumps(said) if as_json else f"{url}  (the API: {url}/docs; stop with Ctrl-C)")

        app = make_app(desk, page=not no_page, token=token, hosts=[host, *(allowed_host or [])])
        answer(app, desk, sock, grace, proxy or [], listens)
    finally:
        desk.close(0.0)
        sock.close()
