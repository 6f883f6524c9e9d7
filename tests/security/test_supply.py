"""What this is made of: a list of it, known holes in it, and versions below which nothing is started."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from packaging.version import Version
from served_workspace import free_port

from goku_core.services.servers import LEAST

ROOT = Path(__file__).resolve().parents[2]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
# Of public advisories: reference in the docstring of each server's minimum, and docs/security.md.
SAFE = {
    "prefect": "3.8.3",  # 7723, 3514, 7724 of CVE-2026; git arguments again in 3.8.3
    "mlflow": "3.17.0",  # 2614, 2651, 2652, 0545 of CVE-2026
    "torch": "2.6.0",  # CVE-2025-32434: weights_only=True ran code
    "jinja2": "3.1.6",  # CVE-2025-27516: out of the sandbox
    "starlette": "0.49.1",  # CVE-2025-62727: ranges that take all time
    "pillow": "12.0.0",
    "transformers": "5.0.0",
    "gradio": "6.0.0",
    "cryptography": "45.0.0",
    "urllib3": "2.6.0",
}


@pytest.mark.parametrize("name", SAFE)
def test_pins_are_at_least_what_is_safe(name: str) -> None:
    assert Version(PINS[name]) >= Version(SAFE[name])


@pytest.mark.parametrize("name", LEAST)
def test_servers_are_not_started_below_it_either(name: str) -> None:
    assert Version(PINS[name]) >= Version(".".join(map(str, LEAST[name])))
    assert Version(".".join(map(str, LEAST[name]))) >= Version({"prefect": "3.8.1", "mlflow": "3.17"}[name])


class Advisories(BaseHTTPRequestHandler):
    """The protocol of osv.dev; knows one hole."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        hole = {
            "id": "GHSA-aaaa-bbbb-cccc",
            "aliases": ["CVE-2026-99999"],
            "summary": "planted",
            "published": "2026-01-01T00:00:00Z",
        }
        hole["affected"] = [{"package": {"name": "badpkg", "ecosystem": "PyPI"}, "ranges": []}]
        told = json.dumps({"vulns": [hole]} if asked["package"]["name"] == "badpkg" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def advisories() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


def audit(tmp_path: Path, pins: str, url: str, ignored: str = "") -> subprocess.CompletedProcess[str]:
    (tmp_path / "pins.txt").write_text(pins)
    (tmp_path / "ignored.toml").write_text(ignored)
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'infra')!r}); from pathlib import Path; import audit; "
        f"sys.exit(audit.main(['-s', 'osv', '--osv-url', {url!r}, '--timeout', '5'], Path('pins.txt'), Path('ignored.toml')))"
    )
    words = [sys.executable, "-c", program]
    return subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, env={"NO_PROXY": "*", "HOME": str(tmp_path)}
    )


@pytest.mark.platform
def test_audit_finds_says_and_excuses(tmp_path: Path) -> None:
    """The real pip-audit, with a service of this machine."""
    excuse = '[[hole]]\nid = "CVE-2026-99999"\nreason = "not started"\nuntil = {}\n'
    with advisories() as url:
        fine = audit(tmp_path, "goodpkg==1.0\n", url)
        assert (fine.returncode, "0 holes" in fine.stdout) == (0, True), fine.stdout + fine.stderr
        bad = audit(tmp_path, "goodpkg==1.0\nbadpkg==1.0\n", url)
        assert bad.returncode == 1 and "badpkg 1.0: " in bad.stdout and "1 holes" in bad.stdout
        assert audit(tmp_path, "goodpkg==1.0\nbadpkg==1.0\n", url, excuse.format("2999-01-01")).returncode == 0
        assert audit(tmp_path, "goodpkg==1.0\nbadpkg==1.0\n", url, excuse.format("2020-01-01")).returncode == 1
        unsaid = audit(tmp_path, "goodpkg==1.0\nbadpkg==1.0\n", url, '[[hole]]\nid = "CVE-2026-99999"\n')
        assert unsaid.returncode not in (0, 3) and "needs a reason" in unsaid.stderr


def test_silence_is_not_green(tmp_path: Path) -> None:
    done = audit(tmp_path, "goodpkg==1.0\n", f"http://127.0.0.1:{free_port()}/v1/query")
    assert done.returncode == 3 and "not audited: the advisory service cannot be reached" in done.stdout


def test_ci_runs_both_and_fails_on_holes_alone(tmp_path: Path) -> None:
    """The step of .ci/run itself, with each exit code the audit has."""
    script = (ROOT / ".ci/run").read_text()
    assert re.search(r'^step "[^"]+" make [^\n]*\bsbom$', script, re.MULTILINE)
    body = re.search(r"^audit\(\) \{\n(.*?)^\}", script, re.MULTILINE | re.DOTALL)
    assert body and re.search(r'^step "[^"]+" audit$', script, re.MULTILINE)
    for code, fails in {0: False, 1: True, 3: False, 2: True}.items():
        (tmp_path / ".venv/bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / ".venv/bin/python").write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / ".venv/bin/python").chmod(0o755)
        words = ["bash", "-euo", "pipefail", "-c", f"{body[0]}\naudit\necho went on"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert ("went on" not in done.stdout) == fails, code


@pytest.mark.skipif(not (ROOT / "sbom.json").is_file(), reason="make sbom first (.ci/run does)")
def test_the_list_names_everything_that_is_installed() -> None:
    text = (ROOT / "sbom.json").read_text()
    told = json.loads(text)
    assert told["bomFormat"] == "CycloneDX" and told["metadata"]["component"]["name"] == "goku-platform"
    listed = {one["name"].lower().replace("_", "-"): one["version"].split("+")[0] for one in told["components"]}
    wanted = {"prefect", "mlflow", "torch", "dvc", "boto3", "numpy", "pydantic", "safetensors"}
    assert {name: listed[name] for name in wanted} == {name: PINS[name] for name in wanted}
    assert len(listed) > 200 and str(ROOT) not in text
