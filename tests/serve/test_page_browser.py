"""The page of `goku serve` in a real browser, on a real service with a tiny model that really draws."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drawing_workspace import drawing_workspace
from page_browser import PROGRAM, Visit, visiting
from page_browser import visit as begin
from PIL import Image
from serving_workspace import ROOT, Service, enter, second_bundle

from goku_core.media.decode import frames
from goku_core.media.provenance import read_provenance
from goku_core.promote import ledger
from goku_core.serve.orders import Order

pytestmark = [
    pytest.mark.platform,
    pytest.mark.skipif(PROGRAM is None, reason="needs chromium: apt-get install chromium"),
]
PROMPT = "a red circle <b>above</b> two blue stars"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    root = tmp_path_factory.mktemp("page") / "workspace"
    drawing_workspace(root)
    with Service(root, "--queue", "3", "--device", "cpu", "--grace", "0", page=True) as running:
        running.folder = root
        yield running


@pytest.fixture
def visit(service):
    with visiting(service.url) as here:
        yield here
        assert here.elsewhere == [], "a request left the host"
        assert here.complaints == []


def add_challenger(root: Path) -> None:
    """One that the gate has refused."""
    standing = ledger.champion(ledger.read(root))
    assert standing is not None
    enter(root, second_bundle(root), "refused", standing.bundle)


def choose(visit: Visit, kind: str) -> None:
    visit.page.get_by_label(kind, exact=True).check()
    visit.page.wait_for_selector("#frame .drop", state="visible" if kind.endswith("frame") else "hidden")


def drop(visit: Visit, name: str, content: bytes, kind: str) -> None:
    """What a browser hands over when a file is dropped there."""
    visit.page.evaluate(
        """([name, content, kind]) => {
            const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name, { type: kind }));
            document.querySelector('#frame .drop').dispatchEvent(
                new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        [name, base64.b64encode(content).decode(), kind],
    )


def png() -> bytes:
    held = io.BytesIO()
    rows = np.linspace(0, 255, 40 * 60 * 3).astype(np.uint8).reshape(40, 60, 3)
    Image.fromarray(rows).save(held, "PNG")
    return held.getvalue()


def drawn_again(visit: Visit, service: Service, place: Path, image: bytes | None = None) -> Path:
    """The file that the command shown on the page writes."""
    words = shlex.split(visit.page.inner_text("#left .origins code"))
    assert words[:2] == ["goku", "generate"]
    out = place / words[words.index("--out") + 1]
    words[words.index("--out") + 1] = str(out)
    if image is not None:
        words[words.index("--image") + 1] = str(place / "first.png")
        (place / "first.png").write_bytes(image)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "goku_core.cli", *words[1:]], cwd=service.folder, capture_output=True, text=True,
        env=environment | {"OMP_NUM_THREADS": "1"}, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def test_a_prompt_gives_the_picture_of_goku_generate_and_says_what_made_it(visit, service, tmp_path):
    visit.page.get_by_label("Prompt").fill(PROMPT)
    visit.page.get_by_label("Seed", exact=True).fill("7")
    visit.button("Draw").click()
    visit.wait("#left .take")
    assert visit.said().startswith("Done")
    shown = tmp_path / "shown.png"
    shown.write_bytes(visit.file())
    again = drawn_again(visit, service, tmp_path)
    assert np.array_equal(np.asarray(Image.open(shown)), np.asarray(Image.open(again)))
    made = read_provenance(shown)
    assert made is not None and made.same_pixels(read_provenance(again))
    assert (made.prompt, made.seed) == (PROMPT, 7)

    (entry, *_) = ledger.read(service.folder)
    facts = visit.facts()
    assert facts["Bundle"] == entry.bundle == made.model
    assert facts["Model"] == "version 1, champion"
    assert facts["Decision"].startswith("promoted ") and facts["Decision"].endswith(f"by {entry.by}: {entry.reason}")
    assert facts["Ledger"] == f"entry 1, evidence {entry.evidence[:12]}"
    assert facts["Score"] == "0.500 (95 % interval 0.400 to 0.600), geneval-6"
    assert (facts["Prompt"], facts["Seed"]) == (PROMPT, "7")
    assert facts["File"] == f"SHA-256 {hashlib.sha256(shown.read_bytes()).hexdigest()}"

    with visit.page.expect_download() as coming:
        visit.page.get_by_text("Download provenance (JSON)").click()
    told = json.loads(Path(coming.value.path()).read_text(encoding="utf-8"))
    assert told["ledger"] == entry.model_dump(mode="json")
    order = Order.model_validate(told["again"]["order"])
    assert (order.prompt, order.seed, order.model) == (PROMPT, 7, entry.bundle)
    with visit.page.expect_download() as coming:
        visit.page.get_by_text("Download picture").click()
    assert Path(coming.value.path()).read_bytes() == shown.read_bytes()

    visit.button("Draw another").click()
    visit.wait("#seen li:nth-child(2)")
    assert visit.facts()["Seed"] not in ("7", "")
    visit.page.get_by_role("button", name=f"Show again: {PROMPT}, seed 7, version 1").click()
    visit.page.wait_for_function("document.querySelector('#left .origins').innerText.includes('Seed\\n7')")


def test_a_dropped_first_frame_becomes_the_clip_of_goku_generate(visit, service, tmp_path):
    first = png()
    choose(visit, "Clip from a first frame")
    visit.page.get_by_label("Prompt").fill("a red circle")
    visit.button("Draw").click()
    assert "Drop a first frame" in visit.until_said("first frame")
    drop(visit, "notes.png", b"no picture at all", "image/png")
    visit.until_said("That is no picture")
    drop(visit, "notes.txt", b"text", "text/plain")
    visit.page.wait_for_selector("#frame [role=alert]:has-text('PNG, JPEG or WebP')", state="visible")
    drop(visit, "first.png", first, "image/png")
    visit.until_said("First frame taken: 40 x 60 px")
    visit.button("Draw").click()
    visit.wait("#left video")
    visit.page.wait_for_function("document.querySelector('#left video').readyState >= 2")  # the browser can play it
    shown = tmp_path / "shown.mp4"
    shown.write_bytes(visit.file())
    made = read_provenance(shown)
    assert made is not None and made.first_frame == hashlib.sha256(first).hexdigest()
    assert visit.facts()["First frame"] == f"SHA-256 {made.first_frame}"
    again = drawn_again(visit, service, tmp_path, first)
    one, other = (np.stack([frame.rgb() for frame in frames(path)]) for path in (shown, again))
    assert one.shape[0] == made.frames > 1
    assert np.array_equal(one, other)


def test_champion_and_challenger_stand_side_by_side_on_the_same_seed(visit, service):
    visit.page.get_by_label("Prompt").fill("two blue stars")
    visit.page.get_by_label("Seed", exact=True).fill("11")
    if len(ledger.read(service.folder)) == 1:
        visit.button("Compare champion and challenger").click()
        assert visit.until_said("There is no challenger").endswith("goku registry ls shows what there is.")
        add_challenger(service.folder)
    visit.button("Compare champion and challenger").click()
    visit.wait("#left .take")
    visit.wait("#right .take")
    left, right = visit.facts("#left"), visit.facts("#right")
    champion, challenger = ledger.read(service.folder)
    assert (left["Bundle"], right["Bundle"]) == (champion.bundle, challenger.bundle)
    assert left["Seed"] == right["Seed"] == "11" and left["Settings"] == right["Settings"]
    assert left["Decision"].startswith("promoted") and right["Decision"].startswith("refused")
    for side, entry in (("#left", champion), ("#right", challenger)):
        head = visit.page.inner_text(f"{side} .score")
        assert entry.bundle[:12] in head and f"score {entry.score:.3f} (95 % interval" in head
    assert visit.file("#left") != visit.file("#right"), "two models, two pictures"
    boxes = [visit.page.locator(f"{side} figure").bounding_box() for side in ("#left", "#right")]
    assert boxes[0]["y"] == pytest.approx(boxes[1]["y"], abs=2) and boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]


def test_the_place_in_the_queue_is_shown_and_an_order_can_be_cancelled(visit, service):
    visit.page.get_by_label("Prompt").fill("two blue stars")
    long = {"task": "t2v", "frames": 65, "height": 128, "width": 128, "steps": 100}
    ahead = [service.taken(**long, seed=seed)["id"] for seed in range(3)]
    service.running(ahead[0])
    known = {place.name for place in (service.folder / ".goku/serve").glob("**/*") if len(place.name) == 32}
    visit.button("Draw").click()
    visit.until_said("Waiting: 2 orders before yours")
    assert visit.button("Draw").is_disabled()
    second = begin(visit.page.context.browser, service.url)
    second.page.get_by_label("Prompt").fill("one more")
    second.button("Draw").click()
    assert "3 orders are waiting" in second.until_said("waiting")
    assert second.page.locator("#status [role=alert]").count() == 1
    assert second.button("Draw").is_enabled() and second.complaints == []
    visit.button("Cancel").click()
    visit.until_said("Cancelled.")
    visit.button("Draw").click()
    visit.until_said("Waiting: 2 orders before yours")
    visit.page.goto("about:blank")
    visit.complaints.clear()  # about the connection that leaving cuts
    mine = {place.name for place in (service.folder / ".goku/serve").glob("**/*") if len(place.name) == 32} - known
    assert len(mine) == 2
    for ticket in mine:
        service.until(lambda ticket=ticket: service.ticket(ticket)["state"] == "cancelled", "left, but not taken back")
    for ticket in ahead:
        service.client.delete(f"/v1/generations/{ticket}")


def test_what_does_not_fit_is_said_in_one_sentence(visit):
    visit.button("Draw").click()
    assert visit.until_said("Write what") == "Write what to draw first."
    visit.page.get_by_label("Prompt").fill("a star")
    visit.page.get_by_label("Seed", exact=True).fill("")
    visit.button("Draw").click()
    assert visit.until_said("seed") == "Give a seed: a whole number from 0 on."


def test_a_narrow_dark_screen_holds_everything(service):
    with visiting(service.url, viewport={"width": 400, "height": 800}, color_scheme="dark") as visit:
        visit.page.get_by_label("Prompt").fill("two blue stars")
        visit.button("Draw").click()
        visit.wait("#left .take")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 400
        # the results, below the form on such a screen, have come into sight
        visit.page.wait_for_function("document.querySelector('#results').getBoundingClientRect().top < 400")
        light = visit.page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        )
        assert max(light) < 60, "the page follows the reader's dark mode"
        unnamed = visit.page.evaluate(
            """[...document.querySelectorAll('input, textarea, button, video')].filter((one) => one.checkVisibility()
                && !(one.ariaLabel || one.labels?.length || one.innerText?.trim() || one.title)).map((one) => one.outerHTML)"""
        )
        assert unnamed == [], "every control has a name"
        assert visit.elsewhere == [] and visit.complaints == []


def test_with_a_token_it_is_asked_for_as_a_password(service, tmp_path):
    place = shutil.copytree(service.folder, tmp_path / "guarded", ignore=shutil.ignore_patterns("serve"))
    token = "correct-horse-battery"
    login = {"username": "anybody", "password": token}
    with (
        Service(place, "--device", "cpu", "--grace", "0", page=True, GOKU_SERVE_TOKEN=token) as guarded,
        visiting(guarded.url, http_credentials=login) as visit,
    ):
        visit.page.get_by_label("Prompt").fill("two blue stars")
        visit.button("Draw").click()
        visit.wait("#left .take")
        visit.page.wait_for_function("document.querySelector('#left figure img').naturalWidth > 0")
        assert visit.elsewhere == []
