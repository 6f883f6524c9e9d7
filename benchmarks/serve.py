"""50 clients at once on `goku serve`: no error, no lost order, the same bytes for the same seed; pictures per second and p99.

Measures the claim: under load every order that was taken is answered, and the service costs little beside the drawing. It starts a
real `goku serve` on a copy of a workspace (ledger and bundles), and clients that post an order, wait for its end, fetch the file
and check its digest, again and again until the time is up. Orders that the full queue refuses are tried again when the service
says, and are counted apart. The limit beside it is the sampler alone, in a process that does nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result

CLAIM = "50 clients at once on goku serve: no error, no lost order, the same bytes for the same seed"
PROMPT = "a red circle left of a blue square"
SEEDS = 16  # so few that every seed is drawn many times, and its bytes can be compared


@dataclass
class Seen:
    """What the clients saw. latency: from the ticket to the file in hand; patience: from the first try on."""

    latency: list[float] = field(default_factory=list)
    patience: list[float] = field(default_factory=list)
    drawing: list[float] = field(default_factory=list)
    digests: dict[int, set[str]] = field(default_factory=dict)
    taken: int = 0
    refused: int = 0
    errors: list[str] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> Result:
    options = parser("serve", __doc__)
    options.add_argument("--workspace", type=Path, default=Path(), help="with a ledger and .goku/bundles [here]")
    options.add_argument("--clients", type=int, default=50, help="[50]")
    options.add_argument("--seconds", type=float, default=60.0, help="in which clients begin new orders [60]")
    options.add_argument("--queue", type=int, default=32, help="of the service, smaller than the clients are many [32]")
    options.add_argument("--steps", type=int, help="solver steps [the model's]")
    options = settle(options.parse_args(arguments))
    if options.small:
        options.clients, options.seconds, options.queue, options.steps = 4, 2.0, 2, 2
    elif options.quick:
        options.seconds = 15.0
    workspace, options.workspace = options.workspace, "a copy"
    result = Result("serve", CLAIM, options)
    place = Path(tempfile.mkdtemp(prefix="goku-serve-"))
    try:
        shutil.copytree(workspace / "ledger", place / "ledger")
        shutil.copytree(workspace / ".goku/bundles", place / ".goku/bundles")
        bare = _bare(result, place)
        with serving(place, options) as url:
            _measure(result, url, 1, min(10.0, options.seconds), bare)
            _measure(result, url, options.clients, options.seconds, bare)
    finally:
        shutil.rmtree(place)
    result.finish()
    return result


@contextmanager
def serving(place: Path, options: Any) -> Iterator[str]:
    """`goku serve` as a process of its own, ready."""
    command = [sys.executable, "-m", "goku_core.cli", "serve", "--port", "0", "--json", "--no-page"]
    command += ["--device", options.device, "--queue", str(options.queue), "--per-client", str(options.clients + 1)]
    threads = {"OMP_NUM_THREADS": str(options.threads)} if options.threads else {}
    path = os.pathsep.join(sys.path)
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=place, env=os.environ | threads | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=log,
            text=True,
        )  # fmt: skip
    try:
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"goku serve did not start:\n{(place / 'log').read_text()}")
        url = json.loads(line)["url"]
        while httpx.get(f"{url}/readyz", trust_env=False).status_code != 200:
            time.sleep(0.1)
        yield url
        process.terminate()
        if process.wait(timeout=60) != 0:
            raise SystemExit(f"goku serve ended with {process.returncode}:\n{(place / 'log').read_text()}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def _bare(result: Result, place: Path) -> float:
    """Pictures per second of the sampler alone, each written to a file as the service does."""
    from goku_core.orders import Order, draw, settled
    from goku_core.references import locate

    options = result.options
    result.say("the sampler alone")
    model = locate(place, "champion")
    generator = model.open("t2i", options.device)
    terms = settled(
        generator.config, generator.sampling, model.digest, False, None, None, None, options.steps, None, None, None
    )
    out = place / "alone.png"
    draw(generator, [Order(PROMPT, 0, out)], terms, None)  # what loads late is not counted
    seconds: list[float] = []
    while sum(seconds) < min(10.0, options.seconds):
        begun = time.perf_counter()
        draw(generator, [Order(PROMPT, len(seconds) % SEEDS, out)], terms, None, dated=False)
        seconds.append(time.perf_counter() - begun)
    row = {"case": "alone", "side": "sampler", "done": len(seconds), "pictures_per_s": len(seconds) / sum(seconds)}
    row |= {"p50_s": statistics.median(seconds), "p99_s": float(np.percentile(seconds, 99))}
    result.rows.append(row)
    result.note(f"a picture is {terms.height}x{terms.width} px in {terms.steps} steps, guidance {terms.guidance:g}")
    return len(seconds) / sum(seconds)


def _measure(result: Result, url: str, clients: int, seconds: float, bare: float) -> None:
    case = f"{clients} client{'s' if clients > 1 else ''}"
    result.say(case)
    seen, begun = Seen(), time.perf_counter()
    asyncio.run(_everybody(seen, url, clients, seconds, result.options.steps))
    lasted = time.perf_counter() - begun
    done = len(seen.latency)
    rate = done / lasted
    result.rows.append(
        {"case": case, "side": "goku serve", "done": done, "pictures_per_s": rate}
        | {"p50_s": float(np.percentile(seen.latency, 50)), "p99_s": float(np.percentile(seen.latency, 99))}
        | {"p99_with_refusals_s": float(np.percentile(seen.patience, 99)), "drawing_s": statistics.median(seen.drawing)}
        | {"errors": len(seen.errors), "lost": seen.taken - done, "refused": seen.refused}
        | {"seeds_with_two_results": sum(len(found) > 1 for found in seen.digests.values())}
    )
    ratio = {"case": case, "side": "goku serve", "against": "sampler", "ratio": rate / bare}
    result.ratios.append(ratio | {"low": rate / bare, "high": rate / bare, "repeats": 1})
    for error in list(dict.fromkeys(seen.errors))[:5]:
        result.note(f"{case}: {error}")


async def _everybody(seen: Seen, url: str, clients: int, seconds: float, steps: int | None) -> None:
    until = time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits, trust_env=False) as session:
        await asyncio.gather(*(_client(seen, session, number, until, steps) for number in range(clients)))


async def _client(seen: Seen, session: httpx.AsyncClient, number: int, until: float, steps: int | None) -> None:
    turn = number
    while time.perf_counter() < until:
        turn += 1
        try:
            await _one(seen, session, turn % SEEDS, until, steps)
        except httpx.HTTPError as error:
            seen.errors.append(f"{type(error).__name__}: {error}")


async def _one(seen: Seen, session: httpx.AsyncClient, seed: int, until: float, steps: int | None) -> None:
    order = {"prompt": PROMPT, "seed": seed} | ({"steps": steps} if steps else {})
    first = time.perf_counter()
    while (answer := await session.post("/v1/generations", json=order)).status_code == 429:
        seen.refused += 1
        if time.perf_counter() > until:
            return
        await asyncio.sleep(float(answer.headers["Retry-After"]))
    if answer.status_code != 202:
        seen.errors.append(f"order: {answer.status_code} {answer.text[:200]}")
        return
    seen.taken += 1
    begun, ticket = time.perf_counter(), answer.json()
    while ticket["state"] in ("queued", "running"):
        ticket = (await session.get(f"/v1/generations/{ticket['id']}", params={"wait": 60})).json()
    if ticket["state"] != "done":
        seen.errors.append(f"ticket: {ticket['error']}")
        return
    content = (await session.get(ticket["result"]["url"])).content
    digest = hashlib.sha256(content).hexdigest()
    if digest != ticket["result"]["sha256"]:
        seen.errors.append("a file is not the one that its ticket names")
        return
    seen.latency.append(time.perf_counter() - begun)
    seen.patience.append(time.perf_counter() - first)
    seen.drawing.append(ticket["result"]["seconds"])
    seen.digests.setdefault(seed, set()).add(digest)


if __name__ == "__main__":
    main()
