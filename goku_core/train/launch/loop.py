"""Attempt after attempt, until the work is done, budgets are spent, or somebody asks to leave."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from goku_core.pipeline.files import append_json_line, read_json_lines, write_json
from goku_core.train.health import incidents
from goku_core.train.health.errors import PREEMPTED
from goku_core.train.health.request import FaultSettings
from goku_core.train.health.selfcheck import examine_in_child
from goku_core.train.launch.attempt import Job, attempt, files_of
from goku_core.train.launch.budgets import decide
from goku_core.train.launch.failures import VICTIM, Failure
from goku_core.train.launch.nodes import LeaderGone, Left, Nodes
from goku_core.train.launch.places import RankFiles
from goku_core.train.launch.report import final_report

ATTEMPTS = "attempts.jsonl"  # begin and end of each, what goodput is counted from
OUTCOME = "launch.json"  # how the launch ended, for whoever started it
NODE_BAD, STOPPED = 76, 1
RESULT_SECONDS = 20.0  # for the other nodes to say how an attempt ended there


class Launch:
    """The launcher of one node.

    job, settings  what runs, and how it is supervised
    least          nodes without which there is no point in going on
    store          object store to examine, s3://bucket/prefix
    parent         process id of whoever started this; when it is gone, that is a request to leave
    """

    def __init__(
        self,
        job: Job,
        settings: FaultSettings,
        nodes: Nodes,
        least: int,
        store: str | None = None,
        parent: int | None = None,
    ) -> None:
        self.job, self.settings, self.nodes, self.least, self.store = job, settings, nodes, least, store
        self.leaving, self.host = nodes.leaving, socket.gethostname()
        self.failures: list[Failure] = []
        self._files: RankFiles | None = None
        self._name = f"{self.host}-{os.getpid()}-{time.time():.0f}"
        self.job.scratch.mkdir(parents=True, exist_ok=True)
        if parent is not None:
            threading.Thread(target=self._follow, args=(parent,), daemon=True).start()

    def run(self) -> int:
        """Exit code: 0 done, 75 asked to leave (the same command continues), 76 this node is bad, 1 stopped (see the report)."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)
        try:
            return self._lead() if self.nodes.leads else self._follow_leader()
        except Left:
            return self._end("left", PREEMPTED, "asked to leave while no rank was running")
        except LeaderGone:
            return self._end("left", PREEMPTED, "the launcher of node 0 is gone; start this one again with it")

    def _lead(self) -> int:
        number = 1 + max((line["attempt"] for line in read_json_lines(self.job.scratch / ATTEMPTS)), default=0)
        wanted = set(range(self.nodes.count))
        while not self.leaving.is_set():
            self.nodes.say("attempt", number)
            self._get_ready(number)
            members, bad = self._members(number, wanted)
            if len(members) < self.least or 0 in bad:
                failure = self._node_failure(bad, wanted - members)
                verdict = self._verdict(failure)
            else:
                wanted = set(members)  # who is lost later is waited for, who never came is not again
                self.nodes.say(f"go/{number}", {"members": sorted(members), "bad": bad})
                failure = self._attempt(number, sorted(members))
                verdict = {"done": True} if failure is None else self._verdict(failure)
            self.nodes.say(f"verdict/{number}", verdict)
            if "restart" not in verdict:
                # The others hear it before the store goes.
                self.nodes.gather(f"bye/{number}", sorted(members - {self.nodes.node}), RESULT_SECONDS, False)
                return self._end("done", 0, "") if "done" in verdict else self._stop(verdict)
            self._say(f"starting again in {verdict['restart']:.0f} s: {verdict['why']}")
            if self.leaving.wait(verdict["restart"]):
                raise Left
            number += 1
        raise Left

    def _follow_leader(self) -> int:
        number = self.nodes.hear("attempt", self.nodes.join_seconds)
        if number is None:
            raise LeaderGone
        if self.nodes.heard(f"go/{number}"):
            # It began with a launcher that stood here before this one: what that one ran is gone.
            gone = Failure(
                "node bad", "the launcher was started again", at=time.time(), node=self.nodes.node, host=self.host
            )
            self.nodes.say(f"result/{number}/{self.nodes.node}", gone.as_json())
            self.nodes.fail(number)
        while True:
            if not self.nodes.heard(f"go/{number}"):
                self._get_ready(number)
                go = self._hear_go(number)
                if go is not None and self.nodes.node not in go["members"]:
                    return self._end("node bad", NODE_BAD, go["bad"].get(str(self.nodes.node), "left out"))
                if go is not None:
                    failure = self._run(number, go["members"])
                    self.nodes.say(f"result/{number}/{self.nodes.node}", failure.as_json() if failure else {})
            verdict = self.nodes.hear(f"verdict/{number}", heed_leaving=False)
            if "restart" not in verdict:
                self.nodes.say(f"bye/{number}/{self.nodes.node}", True)
                return self._end("done", 0, "") if "done" in verdict else self._stop(verdict)
            if self.leaving.is_set():
                raise Left
            number += 1

    def _hear_go(self, number: int) -> dict[str, Any] | None:
        """None where the leader has given the attempt up before it began."""
        while not self.nodes.heard(f"go/{number}"):
            if self.nodes.heard(f"verdict/{number}"):
                return None
            if self.leaving.wait(0.1):
                raise Left
        return self.nodes.hear(f"go/{number}")

    def _get_ready(self, number: int) -> None:
        """Says that nothing runs here any more, and what is wrong with this machine."""
        wrong = []
        if self.settings.self_check:
            wrong = [f for f in examine_in_child(self.job.scratch, self.store) if not f.ok]
        told = "; ".join(f"{finding.what}: {finding.found}" for finding in wrong)
        self.nodes.say(f"ready/{number}/{self.nodes.node}", {"bad": told, "host": self.host})

    def _members(self, number: int, wanted: set[int]) -> tuple[set[int], dict[int, str]]:
        """Nodes that are there and fit, and what is wrong with the others."""
        ready = self.nodes.gather(f"ready/{number}", sorted(wanted), self.nodes.join_seconds)
        # One that was left out may have come back on another machine.
        ready |= self.nodes.gather(f"ready/{number}", sorted(set(range(self.nodes.count)) - wanted), 0.0)
        bad = {node: f"{told['host']}: {told['bad']}" for node, told in ready.items() if told["bad"]}
        for node, why in bad.items():
            incidents.record(self.job.scratch, "node bad", node=node, message=why, attempt=number)
            self._say(f"node {node} is left out: {why}")
        return set(ready) - set(bad), bad

    def _node_failure(self, bad: Mapping[int, str], missing: set[int]) -> Failure:
        words = [f"node {node}: {why}" for node, why in bad.items()]
        words += [f"node {node} did not come" for node in sorted(missing - set(bad))]
        return Failure("node bad", "; ".join(words), at=time.time(), node=min(bad, default=0), host=self.host)

    def _attempt(self, number: int, members: list[int]) -> Failure | None:
        facts = {"attempt": number, "ranks": self.job.ranks * len(members), "nodes": len(members), "host": self.host}
        facts["launch"] = self._name
        self._write({"event": "begin", "time": time.time(), **facts})
        failure = self._run(number, members)
        results = [failure] if failure else []
        others = [node for node in members if node != self.nodes.node]
        told = self.nodes.gather(f"result/{number}", others, RESULT_SECONDS, heed_leaving=False)
        results += [Failure(**one) for one in told.values() if one]
        lost = [node for node in others if node not in told]
        if lost:
            results.append(Failure("node bad", f"the launcher of node {lost[0]} is gone", at=time.time(), node=lost[0]))
        first = min(
            results, key=lambda one: (bool(one.kind == "crash" and VICTIM.search(one.message)), one.at), default=None
        )
        if first is not None:
            progress = max(one.progress for one in results)
            first = Failure(**(first.as_json() | {"progress": progress}))
        self._write({"event": "end", "time": time.time(), "failure": first.as_json() if first else None, **facts})
        return first

    def _run(self, number: int, members: Sequence[int]) -> Failure | None:
        job = self._job_of(number, len(members))
        self._files = files_of(job, number, self.nodes)
        failure = attempt(job, self._files, members, self.nodes, self.settings, self.leaving, self.host)
        self._files = None
        if failure is not None:
            self.nodes.fail(number)
            self._say(f"attempt {number} ended: {_line(failure)}")
        return failure

    def _job_of(self, number: int, members: int) -> Job:
        """With fewer nodes than the job asks for, its request says so."""
        told = json.loads(self.job.file.read_text(encoding="utf-8"))
        parallel = told.get("request", {}).get("parallel")
        if parallel is None or parallel.get("nodes") == members:
            return self.job
        parallel["nodes"] = members
        file = self.job.scratch / "jobs" / f"attempt-{number:04d}-node-{self.nodes.node}.json"
        write_json(file, told)
        return Job(file, self.job.module, self.job.scratch, self.job.ranks)

    def _verdict(self, failure: Failure) -> dict[str, Any]:
        self.failures.append(failure)
        facts = {key: value for key, value in failure.as_json().items() if key not in ("excerpt", "kind", "at")}
        incidents.record(self.job.scratch, failure.kind, detected=failure.at, **facts)
        if self.leaving.is_set():
            return {"left": True, "failure": failure.as_json(), "why": "the launcher was asked to leave"}
        decision = decide(self.failures, self.settings)
        if decision.restart:
            return {"restart": decision.wait, "why": decision.why}
        return {"stop": True, "failure": failure.as_json(), "why": decision.why}

    def _stop(self, verdict: Mapping[str, Any]) -> int:
        failure = Failure(**verdict["failure"])
        if "left" in verdict:
            return self._end("left", PREEMPTED, verdict["why"], failure)
        if failure.kind == "node bad" and failure.node == self.nodes.node:
            return self._end("stopped", NODE_BAD, verdict["why"], failure)
        return self._end("stopped", STOPPED, verdict["why"], failure)

    def _end(self, outcome: str, code: int, why: str, failure: Failure | None = None) -> int:
        facts: dict[str, Any] = {"outcome": outcome, "code": code, "why": why, "attempts": len(self.failures) + 1}
        facts |= {"failure": failure.as_json() if failure else None, "node": self.nodes.node}
        if outcome == "stopped" and failure is not None:
            facts["report"] = final_report(failure, why, self.failures, self.job.scratch)
            print(facts["report"], file=sys.stderr, flush=True)
        elif why:
            self._say(why)
        if self.nodes.leads or outcome == "node bad":
            write_json(self.job.scratch / (OUTCOME if self.nodes.leads else f"node-{self.nodes.node}-{OUTCOME}"), facts)
        return code

    def _write(self, line: dict[str, Any]) -> None:
        if self.nodes.leads:
            append_json_line(self.job.scratch / ATTEMPTS, line)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.leaving.set()
        if self._files is not None and not self._files.ranks:
            raise Left  # the nodes are still meeting: there is nobody to tell, and nothing to save

    def _follow(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        self.leaving.set()

    def _say(self, message: str) -> None:
        print(f"launcher of node {self.nodes.node}: {message}", file=sys.stderr, flush=True)


def _line(failure: Failure) -> str:
    where = f"rank {failure.rank}, " if failure.rank is not None else ""
    where += f"after step {failure.step}, " if failure.step is not None else ""
    return f"{failure.kind}: {where}{failure.message}"


def outcome(scratch: Path) -> dict[str, Any] | None:
    """How the last launch ended; None where none has."""
    path = scratch / OUTCOME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
