"""The step that scores with weights: operator, workers, outcomes, tiers, and what is left out by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from tiny_scorers import aesthetic_head, pictures, random_raft, tiny_classifier, tiny_clip

from goku_core.curate import Request, proxies
from goku_core.curate.models import operator, step
from goku_core.curate.models.calibration import calibrate
from goku_core.curate.summary import left_out
from goku_core.curate.table import EMPTY, SCHEMA
from goku_core.curate.tiers import assign
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.scorers import devices


def row(name: str, start: int = 0, end: int = 96, kind: str = "video", **more: Any) -> dict[str, Any]:
    ids = {"media_id": name, "clip_id": f"{name}:{start}-{end}", "uri": f"{name}.mp4", "kind": kind}
    span = {"start_pts": start, "end_pts": end, "time_base_num": 1, "time_base_den": 24}
    return EMPTY | ids | span | {"outcome": "kept"} | more


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A workspace with weights and the sampled frames of two films and a picture: there is no film to be decoded again."""
    folder = tmp_path_factory.mktemp("workspace")
    tiny_clip(folder / "weights/clip")
    tiny_classifier(folder / "weights/nsfw")
    tiny_classifier(folder / "weights/marks", ("No Watermark", "Watermark"))
    aesthetic_head(folder / "weights/head.pth")
    random_raft(folder / "weights/raft.pth")
    for seed, name in enumerate(("film", "other")):
        with proxies.ProxyWriter(folder / "scratch/proxies", name) as writer:
            for index, image in enumerate(pictures(16, seed, 128, 128)):
                writer.add(index * 12, image)
    with proxies.ProxyWriter(folder / "scratch/proxies", "picture") as writer:
        writer.add(0, pictures(1, 9)[0])
    (folder / "scratch/proxies/broken.safetensors").write_bytes(b"not a file of tensors")
    return folder


def request(*scorers: str, **more: Any) -> Request:
    weights = {"clip": "clip", "aesthetic": "head.pth", "nsfw": "nsfw", "watermark": "marks", "raft": "raft.pth"}
    sections: dict[str, Any] = {name: {"weights": f"weights/{weights[name]}"} for name in scorers}
    if "raft" in scorers:
        sections["raft"] |= {"updates": 1, "pairs": 2}
    return Request(models=sections | {"device": "cpu", "batch": 8} | more)


def settings(place: Path, chosen: Request) -> dict[str, Any]:
    places = {name: str(place / getattr(chosen.models, name).weights) for name in chosen.models.on}
    models = chosen.models.model_dump(mode="json")
    return {"models": models, "places": places, "proxies": str(place / "scratch/proxies")}


def sent(*rows: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{n: r[n] for n in operator.SENT} for r in rows], schema=step.SENT_SCHEMA)


def test_operator_against_transformers_and_numpy(place) -> None:
    """Scores of a clip from its JPEGs, one frame at a time, by transformers' own models and a head of numpy."""
    from PIL import Image
    from transformers import AutoImageProcessor, CLIPModel, ViTForImageClassification

    chosen = request("clip", "aesthetic", "nsfw", "watermark")
    clips = [row("film", 0, 96), row("film", 96, 192), row("other"), row("picture", 0, 1, "image")]
    answers = operator.score(sent(*clips), settings(place, chosen)).to_pylist()
    clip = CLIPModel.from_pretrained(place / "weights/clip").eval()
    classifiers = {
        n: ViTForImageClassification.from_pretrained(place / f"weights/{n}").eval() for n in ("nsfw", "marks")
    }
    prepare = {
        n: AutoImageProcessor.from_pretrained(place / f"weights/{n}", backend="pil") for n in ("clip", "nsfw", "marks")
    }
    head = {n: t.numpy() for n, t in torch.load(place / "weights/head.pth", weights_only=True).items()}
    for answer, one in zip(answers, clips, strict=True):
        frames = proxies.read(place / "scratch/proxies", one["media_id"], one["start_pts"], one["end_pts"], 4)
        assert len(frames) == (1 if one["kind"] == "image" else 4)
        rows, scores, unsafe, marked = [], [], [], []
        for _, frame in frames:
            image = Image.fromarray(frame)
            with torch.no_grad():
                pixels = {n: prepare[n](image, return_tensors="pt")["pixel_values"] for n in prepare}
                embedding = clip.get_image_features(pixels["clip"]).pooler_output[0].numpy().astype(np.float64)
                unsafe.append(classifiers["nsfw"](pixels["nsfw"]).logits.softmax(-1)[0, 1].item())
                marked.append(classifiers["marks"](pixels["marks"]).logits.softmax(-1)[0, 1].item())
            rows.append(embedding / np.linalg.norm(embedding))
            value = rows[-1]
            for layer in (0, 2, 4, 6, 7):
                value = head[f"layers.{layer}.weight"] @ value + head[f"layers.{layer}.bias"]
            scores.append(value[0])
        mean = np.mean(rows, axis=0)
        assert answer["clip_embedding"] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
        assert answer["aesthetic"] == pytest.approx(np.mean(scores), rel=1e-4)
        assert answer["nsfw"] == pytest.approx(max(unsafe), abs=1e-5)
        assert answer["watermark"] == pytest.approx(np.mean(marked), abs=1e-5)
        assert answer["motion_raft"] is None and answer["error_class"] is None
    assert len({answer["aesthetic"] for answer in answers}) == 4


def test_answers_do_not_depend_on_how_rows_are_batched(place) -> None:
    """To the last bit, or the number of workers would be seen in the published table."""
    told = settings(place, request("clip", "aesthetic", "nsfw", "watermark", "raft"))
    clips = [row("film", 0, 96), row("picture", 0, 1, "image"), row("film", 96, 192), row("other", 24, 60)]
    together = operator.score(sent(*clips), told)
    assert together.schema.equals(operator.SCHEMA)
    assert [operator.score(sent(one), told).to_pylist()[0] for one in clips] == together.to_pylist()
    motions = together["motion_raft"].to_pylist()
    assert motions[1] is None and all(motion > 0 for motion in (motions[0], motions[2], motions[3]))


def test_clips_without_frames_fail_by_name_and_harm_nobody(place) -> None:
    told = settings(place, request("nsfw", "raft"))
    clips = [row("lost"), row("film", 1000, 1100), row("film", 0, 12), row("film")]
    answers = operator.score(sent(*clips), told).to_pylist()
    assert [answer["error_class"] for answer in answers] == ["no-frames", "no-frames", "too-few-frames", None]
    assert answers[3]["nsfw"] == operator.score(sent(clips[3]), told).to_pylist()[0]["nsfw"]
    assert not any(str(place) in (answer["message"] or "") for answer in answers)


@pytest.fixture
def context(place, tmp_path) -> Context:
    return Context(workspace=place, staging=tmp_path, scratch=place / "scratch", cores=1)


def test_step_fills_in_scores_and_fails_what_it_cannot_score(place, context) -> None:
    """In supervised workers. What was rejected before is not scored; a row that raises takes no other with it."""
    chosen = request("raft")
    gone = {"outcome": "rejected", "filter": "clip_seconds", "message": "too short"}
    rows = [row("film", motion=1.0), row("lost", motion=1.0), row("film", 96, 192, motion=2.0), row("other") | gone]
    rows.append(row("broken", motion=1.0))
    step.score(rows, chosen, context, place / "scratch/proxies")
    assert [one["outcome"] for one in rows] == ["kept", "failed", "kept", "rejected", "failed"]
    assert (rows[1]["filter"], rows[4]["filter"]) == ("no-frames", "exception") and rows[4]["message"]
    assert rows[1]["motion_raft"] is None and rows[3]["motion_raft"] is None
    expected = operator.score(sent(rows[0], rows[2]), settings(place, chosen))["motion_raft"].to_pylist()
    assert [rows[0]["motion_raft"], rows[2]["motion_raft"]] == expected
    assert json.loads(context.output(step.CALIBRATION).read_text())["clips"] == 2


def test_a_score_that_is_no_number_is_a_failure_and_no_score() -> None:
    """A comparison with NaN is false either way: such a clip would pass every threshold."""
    good = {"clip_embedding": [1.0, 0.0], "nsfw": 0.25}
    answers = [good, good | {"nsfw": float("nan")}, good | {"clip_embedding": [1.0, float("inf")]}]
    rows = [row(f"film{index}") for index in range(3)]
    told = [
        dict.fromkeys(operator.SCHEMA.names) | a | {"clip_id": r["clip_id"]} for a, r in zip(answers, rows, strict=True)
    ]
    step._enter(rows, pa.Table.from_pylist(told, schema=operator.SCHEMA), request("clip", "nsfw").models)
    assert [(one["outcome"], one["filter"]) for one in rows] == [("kept", None)] + [("failed", "not-finite")] * 2
    assert rows[0]["nsfw"] == 0.25 and rows[0]["clip_embedding"].dtype == np.float32
    columns = ["nsfw", "clip_embedding"]
    table = pa.Table.from_pylist([{n: one[n] for n in SCHEMA.names} for one in rows], schema=SCHEMA).select(columns)
    assert table.to_pylist() == [good, {"nsfw": None, "clip_embedding": None}, {"nsfw": None, "clip_embedding": None}]


def test_wrong_weights_are_said_once_and_before_any_film_is_decoded(place, context, monkeypatch) -> None:
    from goku_core.curate import funnel

    aesthetic_head(place / "weights/notraft.pth", linear=True)
    monkeypatch.setattr(funnel, "_collected", lambda path: pa.table({}))
    monkeypatch.setattr(funnel, "_survey", lambda *given: pytest.fail("films were decoded"))
    for name, message in (
        ("notraft.pth", r"^curate\.models: .*notraft\.pth does not hold raft_large or raft_small of torchvision"),
        ("absent.pth", r"^curate\.models\.raft\.weights: .*absent\.pth is not there"),
    ):
        with pytest.raises(GokuError, match=message):
            funnel.curate(Request(models={"raft": {"weights": f"weights/{name}"}, "device": "cpu"}), context)


def test_nothing_runs_and_no_frames_are_wanted_while_all_is_off(context) -> None:
    rows = [row("film")]
    step.check(Request(), context)
    step.score(rows, Request(), context, Path("nowhere"))
    assert rows == [row("film")] and not Request().models.needs_frames and request("raft").models.needs_frames
    assert step.described(SCHEMA, Request(), context).equals(SCHEMA, check_metadata=True)


def test_columns_name_model_digest_and_licence(place, context) -> None:
    import hashlib

    schema = step.described(SCHEMA, request("clip", "aesthetic", "raft"), context)
    told = {name: {k.decode(): v.decode() for k, v in schema.field(name).metadata.items()} for name in schema.names}
    digest = hashlib.sha256((place / "weights/head.pth").read_bytes()).hexdigest()
    body = hashlib.sha256((place / "weights/clip/model.safetensors").read_bytes()).hexdigest()
    assert told["aesthetic"]["weights_sha256"] == digest and told["aesthetic"]["embedding_sha256"] == body
    assert told["clip_embedding"]["model"] == "clip" and told["clip_embedding"]["licence"] == "mit"
    assert told["motion_raft"]["unit"].startswith("mean optical flow (RAFT), px at 256") and "model" not in told["nsfw"]
    assert not any(str(place) in value for metadata in told.values() for value in metadata.values())


def test_a_head_needs_its_body() -> None:
    with pytest.raises(ValidationError, match=r"set clip\.weights"):
        Request(models={"aesthetic": {"weights": "weights/head.pth"}})


def scored(**changes: Any) -> dict[str, Any]:
    good = {"width": 1920, "height": 1080, "ocr_coverage": 0.0, "quality_heuristic": 5.0, "motion": 2.0}
    return row("film") | good | changes


def test_tiers_judge_by_a_models_score_where_there_is_one() -> None:
    chosen = Request()
    assert assign(scored(), chosen) == "1080p"
    assert assign(scored(aesthetic=4.5), chosen) == "1080p" and assign(scored(aesthetic=4.4), chosen) == "480p"
    verdict = assign(scored(aesthetic=4.2), chosen)
    assert (verdict.filter, verdict.score, verdict.threshold) == ("aesthetic", 4.2, 4.3)
    for name in ("nsfw", "watermark"):
        assert assign(scored(**{name: 0.5}), chosen) == "1080p"
        verdict = assign(scored(**{name: 0.51}), chosen)
        assert (verdict.filter, verdict.threshold) == (name, 0.5)
    # RAFT in place of DIS, as in the paper; still and shaking pictures have no motion to be judged by.
    assert assign(scored(motion=0.0, motion_raft=1.0), chosen) == "1080p"
    assert assign(scored(motion=1.0, motion_raft=9.0), chosen) == "720p"
    assert assign(scored(motion=1.0, motion_raft=0.1), chosen).filter == "motion_low"
    assert assign(scored(kind="image", motion=None, aesthetic=4.0), chosen).filter == "aesthetic"


def test_a_scorer_is_named_as_left_out_only_while_it_is_off() -> None:
    assert {"aesthetic", "nsfw", "raft"} <= set(left_out(Request()))
    assert not {"aesthetic", "nsfw", "raft"} & set(left_out(request("clip", "aesthetic", "nsfw", "raft")))


def test_calibration_finds_the_dis_score_that_cuts_the_same_share() -> None:
    rng = np.random.default_rng(0)
    dis = rng.uniform(0, 30, 400)
    raft = dis**1.1 * 0.8
    rows = [row("film", motion=float(a), motion_raft=float(b)) for a, b in zip(dis, raft, strict=True)]
    rows += [row("film", motion=1.0), row("picture", kind="image", motion_raft=None)]
    report = calibrate(rows, Request())
    assert report["clips"] == 400 and report["spearman"] == pytest.approx(1.0)
    assert report["ratio"]["median"] == pytest.approx(np.median(raft[dis >= 0.3] / dis[dis >= 0.3]), abs=1e-6)
    for bound in (0.3, 0.5, 8.0, 15.0, 20.0):
        (found,) = [t for t in report["thresholds"].values() if t["raft"] == bound][:1]
        cut = found["dis_same_share"]
        assert (dis < cut).sum() == pytest.approx((raft < bound).sum(), abs=1)
        assert found["disagree"] == pytest.approx(np.mean((raft < bound) != (dis < bound)), abs=1e-6)
    assert calibrate(rows[:3], Request()) == {"clips": 3, "least_clips": 10}


def test_gpus_are_shared_by_fractions(monkeypatch) -> None:
    assert devices.accelerators("cpu", 0.25, "device") is None
    assert [devices.accelerators("auto", share, "device").share for share in (1, 0.5, 0.34, 0.25, 0.1)] == [
        1,
        2,
        2,
        4,
        10,
    ]
    monkeypatch.setattr(devices, "visible", lambda: ())
    with pytest.raises(GokuError, match=r"no GPU here.*auto or cpu"):
        devices.accelerators("cuda", 1.0, "device")
