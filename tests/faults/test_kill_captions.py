"""kill -9 while captions are asked for: the next run asks only for what is missing, and ends as if nothing had been."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import chat_server
from chat_server import Asked, ChatServer, Reply, number_of, prose

ROWS = 14


def test_a_killed_run_loses_no_answer(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(prose(number_of(asked)), wait=0.1)

    with ChatServer(answer) as server:
        command = [sys.executable, chat_server.__file__, server.url, str(tmp_path), str(ROWS)]
        first = subprocess.Popen(command, stdout=subprocess.PIPE)
        end = time.monotonic() + 60
        while len(server.log) < 7:
            assert time.monotonic() < end, "the first run asks nothing"
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        time.sleep(0.3)  # what was under way at the kill is answered into the void
        under_way, asked_before = 2, len(server.log)
        assert asked_before < ROWS
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    times = Counter(number_of(asked) for asked in server.log)
    assert set(times) == set(range(ROWS)) and max(times.values()) <= 2
    assert len(server.log) - ROWS <= under_way
    captions = [row["caption"] for row in json.loads(second.stdout.splitlines()[-1])]
    assert captions == [prose(number) for number in range(ROWS)]
