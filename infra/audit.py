"""Known holes in what constraints.txt pins: `python infra/audit.py [OPTION OF pip-audit...]` (make audit).

Exit codes: 0 everything was looked up and nothing is known that audit-ignored.toml does not name with a reason; 1 there is a hole;
3 not audited, or not everything. pip-audit itself ends with 0 where its service does not know a package, and a mirror of a
registry without advisories knows none: that is why this is asked here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FINE, HOLES, NOT_AUDITED = 0, 1, 3
PROBE = "jinja2"  # of which old versions have advisories: a service that does not know it knows nothing


def main(
    options: list[str], pins: Path = ROOT / "constraints.txt", ignored: Path = ROOT / "infra/audit-ignored.toml"
) -> int:
    wanted = [line for line in pins.read_text().splitlines() if line and not line.startswith("#")]
    probe = [line for line in wanted if line.lower().startswith(f"{PROBE}==")] or wanted[:1]
    if why := _silent(_audit(probe, options)):
        return _not_audited(why)
    found = _audit(wanted, options)
    if why := _silent(found, all_of_it=True):
        return _not_audited(why)
    holes = [(one["name"], one["version"], hole) for one in found["dependencies"] for hole in one.get("vulns", [])]
    excused = excuses(ignored, datetime.now(UTC).date())
    open_ones = [hole for hole in holes if not {hole[2]["id"], *hole[2].get("aliases", [])} & set(excused)]
    for name, version, hole in open_ones:
        mended = ", ".join(hole.get("fix_versions") or []) or "no version"
        print(f"{name} {version}: {hole['id']} (mended in {mended})")
    skipped = [one for one in found["dependencies"] if "skip_reason" in one]
    for one in skipped:
        print(f"{one['name']}: not audited, {one['skip_reason']}")
    print(
        f"{len(found['dependencies'])} packages, {len(open_ones)} holes, {len(holes) - len(open_ones)} excused by {ignored.name}"
    )
    return HOLES if open_ones else NOT_AUDITED if skipped else FINE


def excuses(file: Path, today: date) -> dict[str, str]:
    """Id -> reason, of those that still count. Raises ValueError for one without a reason or a last day."""
    found = {}
    for one in tomllib.loads(file.read_text()).get("hole", []):
        if not one.get("reason") or not isinstance(one.get("until"), date):
            raise ValueError(
                f"{file.name}: {one.get('id')} needs a reason and a day until which it counts (until = 2027-01-31)"
            )
        if one["until"] >= today:
            found[one["id"]] = one["reason"]
    return found


def _audit(pins: list[str], options: list[str]) -> dict[str, Any] | str:
    """What pip-audit says as JSON; or, where it says nothing, the end of its message."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins) + "\n")
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "-r", file.name, "--no-deps", "--disable-pip", "-f", "json"]
        done = subprocess.run(
            [*command, "--progress-spinner", "off", *options], capture_output=True, text=True, check=False
        )
    try:
        return json.loads(done.stdout)
    except ValueError:
        return (done.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1]


def _silent(found: dict[str, Any] | str, all_of_it: bool = False) -> str:
    """Why an answer is none; "" for one that is."""
    if isinstance(found, str):
        return found
    missed = [one for one in found["dependencies"] if "skip_reason" in one]
    if missed and (not all_of_it or len(missed) == len(found["dependencies"])):
        return missed[0]["skip_reason"]
    return ""


def _not_audited(why: str) -> int:
    print(f"not audited: the advisory service cannot be reached, or knows none of these packages ({why})")
    return NOT_AUDITED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
