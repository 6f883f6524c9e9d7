"""Two hosts of this machine: network namespaces with a cable between them, each with its own host name and addresses.

They share the file system, as machines of a cluster do, and nothing of the network: loopback of one is not that of the other.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

WORKSPACES = Path(__file__).resolve().parent
ROOT = WORKSPACES.parents[1]


@dataclass
class Host:
    """name: of its namespace and of the host; address: on the cable; processes: those started on it, by `start`."""

    name: str
    address: str
    cable: str
    processes: list[subprocess.Popen] = field(default_factory=list)

    def start(self, command: list[str], log: Path, folder: Path | None = None, **environment: str) -> subprocess.Popen:
        """Runs `command` on this host, in `folder`; all it prints goes to `log`."""
        path = os.pathsep.join((str(ROOT), str(WORKSPACES), os.environ.get("PYTHONPATH", "")))
        variables = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment
        entered = [
            "ip",
            "netns",
            "exec",
            self.name,
            "unshare",
            "--uts",
            "sh",
            "-c",
            'hostname "$0"; exec "$@"',
            self.name,
        ]
        with log.open("w") as file:
            process = subprocess.Popen([*entered, *command], cwd=folder, env=variables, stdout=file, stderr=file)
        self.processes.append(process)
        return process

    def power_off(self) -> None:
        """kill -9 of all that runs here; the kernel does not say goodbye to the other host, as the cable goes first."""
        self.unplug()
        self.kill()

    def kill(self) -> None:
        """kill -9 of all that runs here. The kernel closes its connections, as after a pod's death."""
        for pid in _run("ip", "netns", "pids", self.name).split():
            os.kill(int(pid), signal.SIGKILL)
        for process in self.processes:
            process.wait()

    def unplug(self) -> None:
        _run("ip", "-n", self.name, "link", "set", self.cable, "down")

    def plug(self) -> None:
        _run("ip", "-n", self.name, "link", "set", self.cable, "up")


def why_not() -> str | None:
    """What this machine lacks for hosts of its own; None where they can be had."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    if missing := [name for name in ("ip", "unshare") if shutil.which(name) is None]:
        return f"network namespaces need {' and '.join(missing)}"
    name = f"try-{uuid.uuid4().hex[:6]}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"network namespaces cannot be made here: {tried.stderr.strip()}"
    _run("ip", "netns", "delete", name)
    return None


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Nothing of them is left afterwards."""
    drawn = uuid.uuid4().hex[:6]
    hosts = [Host(f"goku-{drawn}-{n}", f"10.199.0.{n + 1}", f"gk{drawn}{n}") for n in (0, 1)]
    try:
        for host in hosts:
            _run("ip", "netns", "add", host.name)
        first, second = hosts
        _run("ip", "link", "add", first.cable, "netns", first.name, "type", "veth",
             "peer", "name", second.cable, "netns", second.name)  # fmt: skip
        for host in hosts:
            _run("ip", "-n", host.name, "address", "add", f"{host.address}/24", "dev", host.cable)
            for device in ("lo", host.cable):
                _run("ip", "-n", host.name, "link", "set", device, "up")
        yield first, second
    finally:
        for host in hosts:
            if (Path("/run/netns") / host.name).exists():
                host.kill()
                _run("ip", "netns", "delete", host.name)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
