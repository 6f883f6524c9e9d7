"""One answer from every engine and after every fault: 1 process, 2 processes, a Ray cluster of two nodes; a killed worker,
node or driver, a poison file. The stage is the real one, on a few small files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pool_operators
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_footage
from small_footage import FILES, POISON, collected, curate, poison

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.pool import PoolResult, run_operator

WORKSPACES = Path(small_footage.__file__).parent
TIMEOUT = 8.0  # per file; a batch of two that hangs costs three times as much


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collected(tmp_path_factory.mktemp("footage") / "workspace")


@pytest.fixture(scope="module")
def undisturbed(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Path]:
    """Digests of what one process publishes, and where it lies."""
    place = tmp_path_factory.mktemp("undisturbed")
    return curate(footage, place, 1, TIMEOUT), place


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two Ray nodes on this machine, each a raylet of its own with one processor."""
    ray = pytest.importorskip(
        "ray", reason="needs the extra `cluster`: uv pip install -c constraints.txt -e '.[cluster]'"
    )
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        store = {"num_cpus": 1, "object_store_memory": 100 << 20}
        started = Cluster(initialize_head=True, head_node_args={**store, "include_dashboard": False})
        started.add_node(**store)
        patch.setenv("RAY_ADDRESS", started.address)
        yield started
        ray.shutdown()
        started.shutdown()


@pytest.fixture
def on_ray(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The second node is there, and `run_operator` goes to the cluster."""
    monkeypatch.setenv("GOKU_ENGINE", "ray")
    monkeypatch.syspath_prepend(str(WORKSPACES))
    while len(cluster.worker_nodes) < 1:
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    return cluster


def squares(
    folder: Path, deeds: list[str], seconds: float = 0.0, *, batch_rows: int = 3, keep: bool = True
) -> PoolResult:
    folder.mkdir(parents=True, exist_ok=True)
    rows = pa.table({"name": [f"row{i}" for i in range(len(deeds))], "number": range(len(deeds)), "deed": deeds})
    return run_operator(
        "pool_operators:logged",
        rows,
        {"log": str(folder / "calls"), "seconds": seconds},
        workers=2,
        batch_rows=batch_rows,
        timeout_seconds=10.0,
        memory_bytes=400 << 20,
        keep=folder / "map" if keep else None,
    )


def calls(folder: Path) -> list[list[str]]:
    """Process and rows of every call of the operator."""
    log = folder / "calls"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def when(condition: Callable[[], bool], deed: Callable[[], None]) -> threading.Thread:
    """Does the deed as soon as the condition holds, beside whatever the test does."""

    def watch() -> None:
        end = time.monotonic() + 120
        while not condition():
            if time.monotonic() > end:
                return
            time.sleep(0.02)
        deed()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def at_work(folder: Path, node: Any) -> list[psutil.Process]:
    """The Ray worker of a node that holds the child of the newest call, where it is that node's."""
    raylet = node.all_processes["raylet"][0].process.pid
    found = calls(folder)
    if len(found) < 5 or not psutil.pid_exists(int(found[-1][0])):
        return []
    worker = psutil.Process(int(found[-1][0])).parent()
    return [worker] if worker is not None and worker.ppid() == raylet else []


def test_a_killed_child_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its batch is done again as a whole: what an operator writes per batch (a shard) stays what it would have been."""
    monkeypatch.syspath_prepend(str(WORKSPACES))
    expected = squares(tmp_path / "whole", ["fine"] * 9)

    def kill() -> None:
        os.kill(int(calls(tmp_path / "hit")[1][0]), signal.SIGKILL)

    killer = when(lambda: len(calls(tmp_path / "hit")) > 1, kill)
    assert squares(tmp_path / "hit", ["fine"] * 9, 0.2) == expected
    killer.join()
    batches = Counter(tuple(rows) for _, *rows in calls(tmp_path / "hit"))
    assert sorted(batches.values()) == [1, 1, 2], batches
    assert {len(rows) for rows in batches} == {3}


def test_a_killed_driver_goes_on_and_repeats_no_finished_partition(tmp_path: Path) -> None:
    program = (
        "import sys, pyarrow as pa\nfrom pathlib import Path\nfrom goku_core.pipeline.pool import run_operator\n"
        "rows = pa.table({'name': [f'row{i}' for i in range(24)], 'number': range(24), 'deed': ['fine'] * 24})\n"
        "at = Path(sys.argv[1])\n"
        "result = run_operator('pool_operators:logged', rows, {'log': str(at / 'calls'), 'seconds': 0.1}, workers=2,\n"
        "                      batch_rows=2, keep=at / 'map')\n"
        "print(result.table.column('square').to_pylist())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(WORKSPACES)])}
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    end = time.monotonic() + 60
    while len(list((tmp_path / "map").glob("*.part"))) < 3:
        assert time.monotonic() < end
        time.sleep(0.02)
    driver.kill()
    driver.communicate()
    finished = len(list((tmp_path / "map").glob("*.part")))
    before = len(calls(tmp_path))
    assert before < 12
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [n * n for n in range(24)]
    assert len(calls(tmp_path)) - before == 12 - finished


@pytest.mark.slow
def test_one_process_two_processes_and_two_nodes_publish_the_same_bytes(
    footage: Path,
    undisturbed: tuple[dict[str, str], Path],
    tmp_path: Path,
    on_ray: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, _ = undisturbed
    assert {"data/clips.parquet", "reports/curation/funnel.json"} <= expected.keys()
    assert sum(name.startswith("data/transcoded/") for name in expected) == 1
    seen = tmp_path / "calls"
    poison(footage, log=str(seen), seconds=0.5)
    assert curate(footage, tmp_path / "ray", 1, TIMEOUT) == expected
    parents = {psutil.Process(os.getpid()).pid}
    assert len({line.split()[0] for line in seen.read_text().splitlines()}) == 2, "one node did all the work"
    poison(footage)
    assert not [p for p in psutil.Process().children() if p.pid not in parents and "pool.worker" in p.cmdline()]
    monkeypatch.setenv("GOKU_ENGINE", "local")
    assert curate(footage, tmp_path / "two", 2, TIMEOUT) == expected


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
@pytest.mark.parametrize(("deed", "error_class"), [("segfault", "crash"), ("hang", "timeout"), ("bomb", "memory")])
def test_a_poison_file_costs_one_row(
    footage: Path,
    undisturbed: tuple[dict[str, str], Path],
    tmp_path: Path,
    on_ray: Any,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    deed: str,
    error_class: str,
) -> None:
    monkeypatch.setenv("GOKU_ENGINE", engine)
    poison(footage, deed=deed)
    try:
        curate(footage, tmp_path, 2, TIMEOUT)
    finally:
        poison(footage)
    rows = pq.read_table(tmp_path / "out/data/clips.parquet").to_pylist()
    (bad,) = [row for row in rows if row["uri"].endswith(POISON)]
    assert (bad["outcome"], bad["filter"]) == ("failed", error_class)
    clean = pq.read_table(undisturbed[1] / "out/data/clips.parquet").to_pylist()
    assert [row for row in rows if row is not bad] == [row for row in clean if not row["uri"].endswith(POISON)]
    assert len({row["media_id"] for row in rows}) == FILES


@pytest.mark.slow
def test_a_killed_driver_of_the_real_stage(
    footage: Path, undisturbed: tuple[dict[str, str], Path], tmp_path: Path
) -> None:
    """kill -9 after the transcode and some other partitions are finished; the second attempt publishes the same."""
    poison(footage, seconds=0.4, log=str(tmp_path / "calls"))
    command = [sys.executable, str(WORKSPACES / "small_footage.py"), str(footage), str(tmp_path), "2", str(TIMEOUT)]
    try:
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while len(list((tmp_path / "scratch/survey").glob("*.part"))) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        driver.kill()
        driver.wait()
        first = (tmp_path / "calls").read_text().splitlines()
        assert len(first) < FILES
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        poison(footage)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == undisturbed[0]
    repeated = len((tmp_path / "calls").read_text().splitlines()) - FILES
    assert repeated <= 4, "two processes had two files each in their hands; nothing else may be done again"


@pytest.mark.slow
def test_ray_gives_the_answer_of_the_local_pool(tmp_path: Path, on_ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    deeds = ["fine", "exit", "raise", "fine", "segfault", "fine", "fine", "leap", "fine", "fine"]
    ray = squares(tmp_path / "ray", deeds)
    assert [bad.row_index for bad in ray.quarantined] == [1, 2, 4, 7]
    monkeypatch.setenv("GOKU_ENGINE", "local")
    assert squares(tmp_path / "local", deeds) == ray
    assert squares(tmp_path / "ray", deeds) == ray, "partitions are kept for either engine"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["worker", "node"])
def test_a_killed_worker_or_node_costs_nothing_but_time(
    tmp_path: Path, on_ray: Any, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (node,) = on_ray.worker_nodes
    found: list[psutil.Process] = []

    def kill() -> None:
        if what == "worker":
            found[0].kill()
        else:
            on_ray.remove_node(node, allow_graceful=False)

    killer = when(lambda: bool(found.extend(at_work(tmp_path, node)) or found), kill)
    result = squares(tmp_path, ["fine"] * 24, 0.5, batch_rows=1)
    killer.join()
    assert result.table.column("square").to_pylist() == [n * n for n in range(24)]
    assert not result.quarantined
    assert "batches were lost with a worker or a node" in capsys.readouterr().err, "the fault hit nothing"
    assert 24 <= len(calls(tmp_path)) <= 28, "more than what was in hand was done again"


@pytest.mark.slow
def test_what_a_cluster_lacks_is_said_at_the_start(
    tmp_path: Path, on_ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GokuError, match="no attribute 'missing'"):
        run_operator("pool_operators:missing", pa.table({"name": ["a"]}), {}, workers=1, keep=tmp_path / "map")
    from ray import cloudpickle

    from goku_core.pipeline.pool import nodes

    cloudpickle.register_pickle_by_value(pool_operators)  # workers that are asked have not been given our path yet
    # A node on which the folder is another one: what this process writes is not there.
    monkeypatch.setattr(nodes, "look", pool_operators.look_elsewhere)
    with pytest.raises(GokuError, match=r"node .* does not see .*same path"):
        squares(tmp_path, ["fine"])
    assert not list((tmp_path / "map").glob(".probe-*"))
