"""`goku serve` as a process: what it draws, follows, cancels, refuses, survives, and which model draws."""

from __future__ import annotations

import base64
import io
import json
import os
import shlex
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from drawing_workspace import drawing_workspace
from PIL import Image
from serving_workspace import PROMPT, Service, enter, second_bundle
from typer.testing import CliRunner

from goku_core.cli import app
from goku_core.generate import Generator
from goku_core.media.decode import frames as decoded
from goku_core.media.provenance import read_provenance
from goku_core.promote import bundle

pytestmark = pytest.mark.platform
LONG = {"steps": 900, "height": 384, "width": 384}  # seconds, with the tiny network


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Workspace, champion, and a second bundle that the ledger does not know yet."""
    root = tmp_path_factory.mktemp("serving")
    first = drawing_workspace(root)
    return root, first, second_bundle(root)


@pytest.fixture(scope="module")
def service(place: tuple[Path, str, str]) -> Iterator[Service]:
    with Service(place[0], "--queue", "24", "--per-client", "30", "--max-steps", "1000") as found:
        yield found


def first_frame() -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_picture_is_what_the_model_draws_by_itself(service: Service, place: tuple[Path, str, str]) -> None:
    """Against the sampler called directly, in another process."""
    ticket = service.drawn(seed=11, steps=3, guidance=2.5)
    with Image.open(io.BytesIO(service.content(ticket["id"]))) as picture:
        served = np.asarray(picture.convert("RGB"))
    generator = Generator.from_bundle(bundle.location(place[0], place[1]), "t2i", "cpu")
    (alone,) = generator.images([PROMPT], [11], steps=3, guidance=2.5)
    assert np.array_equal(served, alone)
    assert (ticket["digest"], ticket["version"], ticket["model"]) == (place[1], 1, "champion")
    assert ticket["result"]["bytes"] == len(service.content(ticket["id"]))


def test_clips_and_first_frames(service: Service, tmp_path: Path) -> None:
    """A first frame counts, by upload and in base64 alike; what comes is a clip of the asked length that names it."""
    content = first_frame()
    upload = service.client.post("/v1/uploads", content=content, headers={"Content-Type": "image/png"}).json()
    assert (upload["height"], upload["width"]) == (40, 48)
    assert service.client.get(f"/v1/uploads/{upload['id']}").content == content
    clip = {"steps": 2, "frames": 9}
    by_id = service.drawn(task="i2v", first_frame=upload["id"], **clip)
    by_bytes = service.drawn(task="i2v", first_frame=base64.b64encode(content).decode(), **clip)
    plain = service.drawn(task="t2v", **clip)
    assert by_id["result"]["sha256"] == by_bytes["result"]["sha256"] != plain["result"]["sha256"]
    file = tmp_path / "a.mp4"
    file.write_bytes(service.content(by_id["id"]))
    assert sum(1 for _ in decoded(file)) == 9 == by_id["result"]["frames"]
    made = read_provenance(file)
    assert made is not None and made.first_frame == upload["id"] and made.prompt == PROMPT


def test_the_same_order_gives_the_same_bytes_alone_and_under_load(service: Service) -> None:
    orders = [{"seed": seed, "steps": 4, "task": task} for seed in range(4) for task in ("t2i", "t2v")]
    alone = [service.drawn(**order)["result"]["sha256"] for order in orders]
    assert len(set(alone)) == len(orders), "every seed draws something else"
    with ThreadPoolExecutor(16) as clients:
        loaded = list(clients.map(lambda order: service.drawn(**order)["result"]["sha256"], orders * 2))
    assert loaded == alone * 2


def test_provenance_is_enough_to_draw_the_same_again(
    service: Service, place: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = service.drawn(seed=5, steps=3, negative="a star")
    facts = service.client.get(f"/v1/generations/{ticket['id']}/provenance").json()
    assert facts["bundle"]["digest"] == place[1] and facts["bundle"]["lineage"]["phases"] == ["first", "i2v"]
    assert facts["ledger"]["bundle"] == place[1] and facts["ledger"]["number"] == 1
    assert facts["software"]["code"]["commit"]
    again = service.drawn(**facts["again"]["order"])
    assert service.content(again["id"]) == service.content(ticket["id"])
    monkeypatch.chdir(place[0])
    words = shlex.split(facts["again"]["command"])[1:]
    out = words.index("--out") + 1
    words[out] = str(tmp_path / words[out])
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    with Image.open(words[out]) as by_hand, Image.open(io.BytesIO(service.content(ticket["id"]))) as served:
        assert np.array_equal(np.asarray(by_hand), np.asarray(served))


def test_every_solver_step_is_told(service: Service) -> None:
    before, id = service.taken(**LONG)["id"], service.taken(steps=20)["id"]
    with service.client.stream("GET", f"/v1/generations/{id}/events") as stream:
        service.client.delete(f"/v1/generations/{before}")
        seen = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert {ticket["id"] for ticket in seen} == {id}
    states = [ticket["state"] for ticket in seen]
    assert list(dict.fromkeys(states)) == ["queued", "running", "done"] and states.count("done") == 1
    assert [round(t["progress"] * 20) for t in seen if t["state"] == "running"] == list(range(21))


def test_orders_are_called_off_waiting_and_running(service: Service) -> None:
    running, waiting, after = service.taken(**LONG), service.taken(seed=1), service.taken(seed=2)
    assert (waiting["position"], after["position"]) == (0, 1) or service.ticket(running["id"])["state"] == "queued"
    service.running(running["id"])
    called_off = service.client.delete(f"/v1/generations/{waiting['id']}").json()
    assert called_off["state"] == "cancelled" and called_off["error"]["code"] == "cancelled"
    service.client.delete(f"/v1/generations/{running['id']}")
    assert service.ticket(running["id"], wait=60)["state"] == "cancelled"
    assert service.ticket(after["id"], wait=60)["state"] == "done", "what came later is drawn all the same"
    refused = service.client.get(f"/v1/generations/{running['id']}/file")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "cancelled")
    done = service.client.delete(f"/v1/generations/{after['id']}").json()
    assert done["state"] == "done", "what has ended stays"


def test_a_deadline_ends_waiting_and_drawing(service: Service) -> None:
    running = service.taken(**LONG, deadline_s=2)
    waiting = service.taken(deadline_s=0.2)
    late = service.ticket(waiting["id"], wait=60)
    assert (late["state"], late["error"]["code"]) == ("failed", "deadline") and "waiting" in late["error"]["message"]
    late = service.ticket(running["id"], wait=60)
    assert (late["state"], late["error"]["code"]) == ("failed", "deadline") and "drawn" in late["error"]["message"]


def test_a_full_queue_refuses_and_loses_nothing(service: Service) -> None:
    running = service.taken(**LONG)
    service.running(running["id"])
    taken = [service.taken(seed=seed, steps=1)["id"] for seed in range(24)]
    refused = service.order(seed=99)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue")
    assert int(refused.headers["Retry-After"]) >= 1
    assert "goku_serve_queue_length 24.0" in service.client.get("/metrics").text
    service.client.delete(f"/v1/generations/{running['id']}")
    assert {service.ticket(id, wait=60)["state"] for id in taken} == {"done"}
    assert 'goku_serve_refused_total{code="queue"} 1.0' in service.client.get("/metrics").text


def test_a_killed_worker_costs_one_order(service: Service) -> None:
    running, after = service.taken(**LONG), service.taken(seed=7, steps=2)
    service.running(running["id"])
    os.kill(service.worker(), signal.SIGKILL)
    lost = service.ticket(running["id"], wait=60)
    assert (lost["state"], lost["error"]["code"]) == ("failed", "worker-died") and "SIGKILL" in lost["error"]["message"]
    assert service.ticket(after["id"], wait=120)["state"] == "done"
    assert service.client.get("/readyz").status_code == 200
    segfault = service.taken(**LONG)
    service.running(segfault["id"])
    os.kill(service.worker(), signal.SIGSEGV)
    assert "SIGSEGV" in service.ticket(segfault["id"], wait=60)["error"]["message"]


def test_limits_and_bad_orders(service: Service) -> None:
    for status, code, order in (
        (422, "size", {"height": 1296, "width": 16}),
        (422, "frames", {"task": "t2v", "frames": 133}),
        (422, "prompt", {"prompt": "a " * 1001}),
        (422, "invalid", {"height": 32}),
        (422, "invalid", {"height": 33, "width": 32}),
        (422, "invalid", {"seed": -1}),
        (422, "invalid", {"sead": 1}),
        (422, "invalid", {"steps": "4"}),
        (422, "invalid", {"task": "i2v"}),
        (422, "upload", {"task": "i2v", "first_frame": base64.b64encode(b"no picture").decode()}),
        (422, "upload", {"task": "i2v", "first_frame": "../../etc/passwd"}),
        (404, "unknown-upload", {"task": "i2v", "first_frame": "0" * 64}),
        (404, "unknown-model", {"model": "challenger"}),
        (404, "unknown-model", {"model": "17"}),
        (422, "invalid", {"model": "../models"}),
        (422, "deadline_s", {"deadline_s": 1e6}),
    ):
        answer = service.order(**order)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), (order, answer.text)
    form = service.client.post(
        "/v1/generations", content=json.dumps({"prompt": "x"}), headers={"Content-Type": "text/plain"}
    )
    assert form.status_code == 422, "a form of another site can send that without being asked"
    broken = service.client.post("/v1/generations", content=b'{"prompt"', headers={"Content-Type": "application/json"})
    assert broken.status_code == 422
    large = service.client.post("/v1/uploads", content=bytes(40 * 2**20), headers={"Content-Type": "image/png"})
    assert large.status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(2**20)

    assert service.client.post("/v1/generations", content=pieces()).status_code == 413, "a length that nobody told"


def test_a_promotion_counts_from_the_next_order_on(service: Service, place: tuple[Path, str, str]) -> None:
    root, first, second = place
    before = service.drawn(seed=1, steps=2)
    running, waiting = service.taken(**LONG), service.taken(seed=1, steps=2)
    enter(root, second)
    after = service.taken(seed=1, steps=2)
    service.client.delete(f"/v1/generations/{running['id']}")
    waiting, after = (service.ticket(one["id"], wait=60) for one in (waiting, after))
    assert (waiting["digest"], after["digest"]) == (first, second), "taken before and after"
    assert waiting["result"]["sha256"] == before["result"]["sha256"] != after["result"]["sha256"]
    both = {card["version"]: card for card in service.client.get("/v1/models").json()["models"]}
    assert (both[2]["aliases"], both[1]["aliases"]) == (["champion"], ["previous"])
    old = service.drawn(seed=1, steps=2, model="previous")
    assert old["result"]["sha256"] == before["result"]["sha256"], "both can be asked for"
    assert service.drawn(seed=1, steps=2, model="1")["digest"] == service.drawn(steps=2, model=first[:12])["digest"]
    enter(root, first, "rolled-back")
    assert service.drawn(seed=1, steps=2)["result"]["sha256"] == before["result"]["sha256"]


def test_a_tampered_bundle_draws_nothing(service: Service, place: tuple[Path, str, str]) -> None:
    """It is not in memory: the service was told of a third model whose weights were changed after it had been made."""
    root, first, _ = place
    (root / "models/first-2/model.safetensors").chmod(0o644)
    source = bundle.location(root, first)
    models = {"t2i": root / "models/i2v-2"}
    third = bundle.build(root, root / "partial", models, root / "models/vae", {"phases": ["third"]})
    weights = bundle.location(root, third) / "t2i/model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes((source / "t2i/model.safetensors").read_bytes())
    enter(root, third, "refused", standing=first)
    answer = service.order(model="challenger")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "task"), "a network that needs a first frame"
    fourth = bundle.build(
        root, root / "partial", {"t2i": root / "models/first-2"}, root / "models/vae", {"phases": ["4"]}
    )
    weights = bundle.location(root, fourth) / "t2i/model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes((source / "t2i/model.safetensors").read_bytes())
    enter(root, fourth, "refused", standing=first)
    ticket = service.order(wait=60, model="challenger").json()
    assert (ticket["state"], ticket["error"]["code"]) == ("failed", "model"), ticket
    assert "changed after" in ticket["error"]["message"]
    assert service.drawn(steps=1)["digest"] == first


def test_what_people_asked_for_is_not_in_the_log(service: Service) -> None:
    service.drawn(prompt="an unmistakable pelican", steps=1)
    service.order(prompt="an unmistakable pelican", sead=1)
    log = service.log.read_text()
    assert "taken" in log and "pelican" not in log and "red circle" not in log
