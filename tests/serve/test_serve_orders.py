"""The form of an order, the models that a ledger offers for it, and the pictures that it may bring."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from drawing_workspace import drawing_workspace
from PIL import Image
from pydantic import ValidationError
from serving_workspace import enter, second_bundle

from goku_core.generate import Generator
from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle, ledger
from goku_core.serve.limits import Limits
from goku_core.serve.orders import Order, Refused
from goku_core.serve.shelf import Shelf
from goku_core.serve.uploads import Uploads
from goku_core.serve.worker import Networks, _Unloadable


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    root = tmp_path_factory.mktemp("shelf")
    first = drawing_workspace(root)
    return root, first, second_bundle(root)


@pytest.mark.parametrize(
    "bad",
    [
        {"prompt": ""},
        {"prompt": "\ud800"},
        {"task": "t2a"},
        {"task": "t2i", "frames": 5},
        {"task": "t2v", "frames": 6},
        {"task": "t2v", "frames": 1},
        {"height": 64},
        {"height": 60, "width": 64},
        {"height": 0, "width": 0},
        {"seed": 2**63},
        {"seed": True},
        {"seed": 1.5},
        {"steps": 0},
        {"guidance": float("nan")},
        {"guidance": -1.0},
        {"guidance": 1.0, "negative": "blur"},
        {"image_guidance": 2.0},
        {"first_frame": "0" * 64},
        {"task": "i2v"},
        {"model": "models/first"},
        {"model": ""},
        {"deadline_s": 0.0},
        {"out": "a.png"},
    ],
)
def test_orders_that_are_none(bad: dict) -> None:
    Order.model_validate({"prompt": "a star"})
    with pytest.raises(ValidationError):
        Order.model_validate({"prompt": "a star"} | bad)


def test_an_order_gets_what_the_model_was_trained_with(place: tuple[Path, str, str]) -> None:
    shelf = Shelf(place[0], Limits())
    clip = shelf.settle(Order(prompt="x", task="t2v"), "champion")
    terms, tokens = clip.terms, clip.tokens
    assert (terms.height, terms.width, terms.frames, terms.fps, terms.steps) == (32, 32, 5, 8.0, 2)
    assert tokens == 2 * 2 * 2, "two latent frames of 4x4 in patches of 2x2"
    asked = Order(prompt="x", height=48, width=64, steps=7, guidance=1.5)
    terms = shelf.settle(asked, "champion").terms
    assert (terms.height, terms.width, terms.frames, terms.steps, terms.guidance) == (48, 64, 1, 7, 1.5)
    assert terms.model == place[1]


@pytest.mark.parametrize(
    ("limits", "order", "code"),
    [
        (Limits(side=48), {"height": 64, "width": 16}, "size"),
        (Limits(side=16), {}, "size"),  # the model's own
        (Limits(frames=5), {"task": "t2v", "frames": 9}, "frames"),
        (Limits(steps=4), {"steps": 5}, "steps"),
        (Limits(tokens=11), {"height": 48, "width": 64}, "tokens"),
        (Limits(prompt=3), {"prompt": "four"}, "prompt"),
        (Limits(prompt=3), {"prompt": "abc", "negative": "four"}, "prompt"),
        (Limits(deadline_s=5), {"deadline_s": 6.0}, "deadline_s"),
    ],
)
def test_limits(place: tuple[Path, str, str], limits: Limits, order: dict, code: str) -> None:
    with pytest.raises(Refused) as refused:
        Shelf(place[0], limits).settle(Order.model_validate({"prompt": "x"} | order), "champion")
    assert (refused.value.status, refused.value.code) == (422, code)


def test_names_follow_the_ledger(place: tuple[Path, str, str]) -> None:
    root, first, second = place
    shelf = Shelf(root, Limits())

    def drawn_by(name: str | None) -> str:
        return shelf.settle(Order(prompt="x", model=name), "champion").bundle.digest

    assert drawn_by(None) == first and shelf.cards([first])[0].loaded
    enter(root, second, "refused", standing=first)
    assert (drawn_by(None), drawn_by("challenger"), drawn_by("2")) == (first, second, second)
    enter(root, second)
    assert (drawn_by("champion"), drawn_by("previous"), drawn_by(second[:12])) == (second, first, second)
    enter(root, first, "rolled-back")
    cards = shelf.cards([])
    assert [(card.version, card.aliases, card.decision) for card in cards] == [
        (2, [], "promoted"),
        (1, ["champion"], "promoted"),
    ]
    assert set(cards[0].tasks) == {"t2i", "t2v", "i2v"} and cards[1].score == 0.5
    for unknown in ("3", "previous", "0" * 12):
        with pytest.raises(Refused) as refused:
            drawn_by(unknown)
        assert refused.value.status == 404


def test_changed_settings_and_a_broken_ledger_are_noticed(place: tuple[Path, str, str], tmp_path: Path) -> None:
    root, first, _ = place
    shelf = Shelf(tmp_path, Limits())
    with pytest.raises(GokuError, match="No model has been promoted"):
        shelf.named("champion")
    folder = bundle.location(tmp_path, first)
    for file in bundle.location(root, first).rglob("config.json"):
        target = folder / file.relative_to(bundle.location(root, first))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    (folder / "manifest.json").write_bytes((bundle.location(root, first) / "manifest.json").read_bytes())
    enter(tmp_path, first)
    config = json.loads((folder / "t2i/config.json").read_text())
    config["sampling"]["steps"] = 1
    (folder / "t2i/config.json").write_text(json.dumps(config))
    with pytest.raises(GokuError, match=r"t2i/config\.json was changed"):
        shelf.bundle(first)
    entry = tmp_path / "ledger/000001.json"
    entry.chmod(0o644)
    entry.write_text("{}")
    with pytest.raises(Refused) as refused:
        shelf.settle(Order(prompt="x"), "champion")
    assert (refused.value.status, refused.value.code) == (503, "ledger")
    assert str(tmp_path) not in str(refused.value), "where it lies is nobody's business"


def test_networks_in_memory_are_few_and_share_what_is_the_same(place: tuple[Path, str, str]) -> None:
    root, first, second = place
    if second not in {entry.bundle for entry in ledger.read(root)}:
        enter(root, second, "refused", standing=first)
    networks = Networks(root, "cpu", 2)
    image, clip, moving = (networks.get(bundle.location(root, first), first, task) for task in ("t2i", "t2v", "i2v"))
    assert clip is image, "two tasks of one network"
    assert moving.vae is image.vae and moving.encoder is image.encoder and moving.model is not image.model
    given = np.full((1, 32, 32, 3), 200, np.uint8)
    alone = Generator.from_bundle(bundle.location(root, first), "i2v", "cpu")
    assert np.array_equal(moving.clips(["x"], [1], first_frames=given), alone.clips(["x"], [1], first_frames=given))
    other = networks.get(bundle.location(root, second), second, "t2i")
    assert other.vae is not image.vae and networks.digests == sorted({first, second})
    assert networks.get(bundle.location(root, first), first, "i2v") is moving
    assert networks.get(bundle.location(root, first), first, "t2i") is not image, "it had to make room"
    assert networks.digests == [first], "and so had the other bundle's, which was used longest ago"


def test_a_signature_that_is_demanded_is_demanded_here(
    place: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every bundle, before a network of it is loaded; what stands in promote.trusted_keys or in the environment counts."""
    signature = pytest.importorskip("goku_core.promote.signature")
    root, first, _ = place
    monkeypatch.setenv(signature.TRUSTED, signature.keygen(tmp_path / "key.pem"))
    with pytest.raises(_Unloadable, match="not signed"):
        Networks(root, "cpu", 1).get(bundle.location(root, first), first, "t2i")
    monkeypatch.setenv(signature.VARIABLE, str(tmp_path / "key.pem"))
    signature.sign(root, first, signature.signer())
    assert Networks(root, "cpu", 1).get(bundle.location(root, first), first, "t2i").size == (32, 32)


def picture(kind: str, height: int = 8, width: int = 12) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A small PNG that unpacks to a large one."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(10**6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_pictures_are_taken_and_named_by_their_bytes(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads", Limits())
    for kind, suffix in (("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp")):
        content = picture(kind)
        taken = uploads.take(content)
        assert taken.id == hashlib.sha256(content).hexdigest() and (taken.height, taken.width) == (8, 12)
        path = uploads.path(uploads.given(taken.id))
        assert (path.name, path.read_bytes()) == (taken.id + suffix, content)
    assert len(list((tmp_path / "uploads").iterdir())) == 3


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "upload"),
        (b"%PDF-1.7", 422, "upload"),
        (picture("BMP"), 422, "upload"),
        (picture("GIF"), 422, "upload"),
        (picture("TIFF"), 422, "upload"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422, "upload"),
        (picture("PNG", 64, 64)[:2000], 422, "upload"),
        (picture("PNG", 32, 32), 413, "upload-pixels"),
        (bomb(1000), 413, "upload-pixels"),
        (bomb(60000), 413, "upload-pixels"),
        (picture("PNG", 200, 200), 413, "upload-size"),
    ],
)
def test_what_is_no_picture_of_ours_is_refused(tmp_path: Path, content: bytes, status: int, code: str) -> None:
    uploads = Uploads(
        tmp_path / "uploads", Limits(upload_bytes=50_000, upload_pixels=1000 if len(content) < 4000 else 10**5)
    )
    if len(content) == 2000:
        uploads.limits = Limits()
    with pytest.raises(Refused) as refused:
        uploads.take(content)
    assert (refused.value.status, refused.value.code) == (status, code)
    assert not list((tmp_path / "uploads").glob("*")), "nothing of it stays"


def test_unused_uploads_go_in_time(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads", Limits(kept_hours=1))
    used, old, new = (uploads.take(picture("PNG", 8, width)).id for width in (8, 9, 10))
    for id in (used, old):
        os.utime(uploads.path(id), (0, 0))
    uploads.prune({used})
    assert uploads.path(used) and uploads.path(new)
    for gone in (old, "../" + new, "0" * 64, "*"):
        with pytest.raises(Refused) as refused:
            uploads.path(gone)
        assert refused.value.status == 404
