"""Clips captioned per second through the whole recipe's client, against the bare server at the same load.

Measures the claim: at least 85 % of what the server gives when nothing but prepared requests are sent to it. The server
is a process of its own that speaks chat completions, with so many slots and so long an answer as told (a stand-in for a
GPU: here the client is measured, not a model). Ours reads frames from JPEG, renders the prompt, encodes and sends, checks the
caption and stores the answer; bare posts bodies made beforehand over the same number of connections.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

from benchmarks.measuring.chat import serving
from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result
from goku_core.chat.server import Server
from goku_core.curate.captions.request import Captions
from goku_core.curate.captions.step import describe
from goku_core.curate.captions.templates import Templates
from goku_core.curate.table import EMPTY

CLAIM = "Captions from a server: clips per second against the bare server, at least 0.85x of it"


def main(arguments: list[str] | None = None) -> Result:
    options = parser("captions", __doc__)
    options.add_argument("--slots", type=int, default=32, help="answers that the server makes at a time [32]")
    options.add_argument("--seconds", type=float, default=2.0, help="that an answer takes [2]")
    options.add_argument("--clips", type=int, default=192, help="of a call [192]")
    options.add_argument("--frames", nargs="+", type=int, default=[4, 16], help="shown of a clip [4 16]")
    options = settle(options.parse_args(arguments))
    if options.small:
        options.slots, options.seconds, options.clips, options.frames = 2, 0.02, 6, [2]
    elif options.quick:
        options.clips, options.frames = 64, [4]
    result = Result("captions", CLAIM, options)
    limit = options.slots / options.seconds
    result.note(
        f"limit: {options.slots} slots of {options.seconds:g} s give {limit:g} clips/s, whatever the client does"
    )
    with serving(options.slots, options.seconds) as url:
        for frames in options.frames:
            _measure(result, url, frames)
    result.finish()
    return result


def _measure(result: Result, url: str, count: int) -> None:
    options = result.options
    rows = [_row(number) for number in range(options.clips)]
    jpegs = _jpegs(count)
    place = Path(tempfile.mkdtemp(prefix="goku-captions-"))
    own = {"kind": "server", "model": "stand-in", "url": url, "frames": count, "max_tokens": 256}
    captions = Captions(keyframes=own, concurrency=options.slots)
    folders = (place / str(number) for number in range(1_000_000))  # a fresh store of answers for every call

    def frames(row: Mapping[str, Any], most: int) -> Sequence[np.ndarray]:
        return [cv2.cvtColor(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB) for jpeg in jpegs[:most]]

    def ours() -> None:
        found = [dict(row) for row in rows]
        recipe = describe(found, captions, next(folders), frames, lambda done: None)
        assert recipe.asked == len(rows) and all(row["caption"] for row in found)

    bodies = _bodies(rows, captions, frames({}, count))

    def bare() -> None:
        assert asyncio.run(_post(url, bodies, options.slots)) == len(bodies)

    try:
        result.measure(
            f"{count} frames of 448x252",
            {"goku": ours, "bare server": bare},
            [("goku", "bare server")],
            repeats=options.repeats or (1 if options.small else 3),
            per_call={"clips": float(len(rows))},
        )
    finally:
        shutil.rmtree(place)


def _row(number: int) -> dict[str, Any]:
    name = f"{number:064x}"
    return {**EMPTY, "clip_id": f"{name}:0-100", "media_id": name, "kind": "video", "seconds": 5.0}


def _jpegs(count: int) -> list[np.ndarray]:
    """Frames as the survey leaves them: JPEG of quality 90, long side 448 px, with texture of about 30 kB."""
    draws = np.random.default_rng(0)
    found = []
    for _ in range(count):
        coarse = draws.integers(0, 256, (36, 64, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, (448, 252), interpolation=cv2.INTER_CUBIC)
        found.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])
    return found


def _bodies(rows: list[dict[str, Any]], captions: Captions, images: Sequence[np.ndarray]) -> list[bytes]:
    """The requests that our client sends, made beforehand."""
    server, templates = Server(captions.keyframes, captions, asyncio.Semaphore(1)), Templates()
    facts = ({"kind": row["kind"], "seconds": row["seconds"]} for row in rows)
    return [server.body(templates.render("keyframes", one), images, 0.2, seed) for seed, one in enumerate(facts)]


async def _post(url: str, bodies: list[bytes], connections: int) -> int:
    """Answers got. As many requests under way as there are connections."""
    waiting: Iterator[bytes] = iter(bodies)
    headers = {"Content-Type": "application/json"}
    limits = httpx.Limits(max_connections=connections)

    async with httpx.AsyncClient(timeout=600, limits=limits, trust_env=False) as client:

        async def work() -> int:
            done = 0
            for body in waiting:
                response = await client.post(f"{url}/chat/completions", content=body, headers=headers)
                done += bool(json.loads(response.content)["choices"])
            return done

        return sum(await asyncio.gather(*(work() for _ in range(connections))))


if __name__ == "__main__":
    main()
