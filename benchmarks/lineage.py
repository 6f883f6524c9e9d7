"""Seconds of a question about lineage over 10,000 records, against reading every record for it.

Measures the claim: at most one second, the command's own start included, from records on disk. Sides: `goku lineage` as a
process, with its index at hand and with none; the question alone in this process; and the plain way, every commit record
and its lineage record read and parsed. The history is invented: trainings, evaluations and promotions on a few versions
of data, records as large as the demo's (100 files in an output, 200 of code), 5,000 pieces of work in the longest chain.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import records
from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result
from goku_core.lineage import chain

CLAIM = "A question about lineage over 10,000 records: at most 1 s"


def main(arguments: list[str] | None = None) -> Result:
    options = parser("lineage", __doc__)
    options.add_argument("--records", type=int, default=10_000, help="[10000]")
    options = settle(options.parse_args(arguments))
    if options.small:
        options.records = 60
    result = Result("lineage", CLAIM, options)
    with tempfile.TemporaryDirectory() as place:
        workspace = Path(place)
        result.say(f"writing {options.records} records")
        values = records.write(workspace, options.records)
        measure(result, workspace, values)
    result.finish()
    return result


def measure(result: Result, workspace: Path, values: list[dict]) -> None:
    index = workspace / ".goku" / "lineage.sqlite"
    promotion = next(value for value in reversed(values) if value["cell"] == "promote")
    source = next(value for value in values if value["cell"] == "collect")
    cases = {
        "a model": promotion["mlflow_run"],
        "a commit": promotion["git"]["commit"],
        "the first data": source["fingerprint"],
    }
    for case, name in cases.items():
        found = chain(workspace, name)

        def command(name: str = name) -> None:
            told = [sys.executable, "-m", "goku_core.cli", "lineage", name, "--json"]
            subprocess.run(told, cwd=workspace, check=True, stdout=subprocess.DEVNULL)

        def cold(name: str = name) -> None:
            for file in index.parent.glob(f"{index.name}*"):
                file.unlink()
            command(name)

        result.measure(
            case,
            {
                "goku lineage": command,
                "the question alone": lambda name=name: chain(workspace, name),
                "goku lineage, no index yet": cold,
                "reading every record": lambda: _read_all(workspace),
            },
            [("goku lineage", "reading every record")],
            repeats=result.options.repeats or (1 if result.options.small else 3),
            pieces=len(found.nodes),
        )
    result.note(f"records: {sum(f.stat().st_size for f in (workspace / '.goku').rglob('*.json')) / 1e6:,.0f} MB of JSON, "
                f"index {index.stat().st_size / 1e6:,.0f} MB")  # fmt: skip


def _read_all(workspace: Path) -> None:
    for file in (workspace / ".goku" / "records").glob("*/*.json"):
        record = json.loads(file.read_bytes())
        json.loads((workspace / ".goku" / "lineage" / f"{record['lineage']}.json").read_bytes())


if __name__ == "__main__":
    main()
