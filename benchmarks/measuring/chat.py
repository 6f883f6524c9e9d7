"""A server of chat completions with a known limit: so many answers at a time, each after so long. In a process of its own,
so that it takes no time from the client's interpreter.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CAPTION = (
    "A woman in a yellow raincoat walks along a wet street at night, past shop windows that glow in red and blue, "
    "while the camera pans left and a tram rolls by behind her in the rain."
)


@contextmanager
def serving(slots: int, seconds: float) -> Iterator[str]:
    """Starts the server and gives its address; ends it afterwards."""
    command = [sys.executable, "-m", "benchmarks.measuring.chat", str(slots), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = process.stdout.readline().strip() if process.stdout else ""
        if not port:
            raise RuntimeError(f"the server did not start (exit {process.wait()})")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


async def _serve(slots: int, seconds: float) -> None:
    free = asyncio.Semaphore(slots)
    choice = {"index": 0, "message": {"role": "assistant", "content": CAPTION}, "finish_reason": "stop"}
    body = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
                await reader.readexactly(length)
                async with free:
                    await asyncio.sleep(seconds)
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()  # the client is done

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=1 << 20, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
