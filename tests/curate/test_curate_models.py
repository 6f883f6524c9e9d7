"""Scorers with weights, one by one, on small random checkpoints, against computations of another kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_scorers import (
    CLIP_MEAN,
    CLIP_STD,
    SIDE,
    WIDTH,
    aesthetic_head,
    pictures,
    tiny_classifier,
    tiny_clip,
    tiny_dinov2,
    tiny_siglip,
)

from goku_core.curate.models.classifier import FrameClassifier
from goku_core.pipeline.errors import GokuError
from goku_core.scorers import weights
from goku_core.scorers.aesthetic import LAYERS, AestheticHead
from goku_core.scorers.clip import Clip, pooled
from goku_core.scorers.dinov2 import Dinov2Features
from goku_core.scorers.tensors import read_tensors


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


def normalised(image: Image.Image, mean: list[float], std: list[float]) -> torch.Tensor:
    values = (np.asarray(image, np.float64) / 255.0 - mean) / std
    return torch.from_numpy(values.transpose(2, 0, 1)[None].astype(np.float32))


def centre(frame: np.ndarray, short: int, side: int, resample: Image.Resampling) -> Image.Image:
    """Shorter side to ``short``, then the middle square, by Pillow alone."""
    height, width = frame.shape[:2]
    scale = short / min(height, width)
    image = Image.fromarray(frame).resize((int(width * scale), int(height * scale)), resample)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def test_clip_embeds_as_transformers_does_on_pixels_prepared_by_hand(clip_folder) -> None:
    from transformers import CLIPModel

    frames = pictures(3) + pictures(2, seed=1, height=160, width=90)
    model = CLIPModel.from_pretrained(clip_folder).eval()
    for frame, row in zip(frames, Clip(clip_folder, batch=4).images(frames), strict=True):
        pixels = normalised(centre(frame, SIDE, SIDE, Image.Resampling.BICUBIC), CLIP_MEAN, CLIP_STD)
        with torch.no_grad():
            expected = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)[0].numpy()
        assert row == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)
    with torch.no_grad():
        text = {"input_ids": torch.tensor([[0, 4, 2, 46, 53]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
        expected = model.get_text_features(**text).pooler_output[0].numpy()  # d, b, t</w> between start and end
    (row,) = Clip(clip_folder).texts(["DBT"])
    assert row == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)


def test_a_frames_embedding_does_not_depend_on_its_company(clip_folder) -> None:
    """To the last bit: batches are cut by the number of workers' rows, and tables must be equal byte for byte."""
    frames = pictures(11)
    clip = Clip(clip_folder, batch=4)
    together = clip.images(frames)
    assert all(np.array_equal(clip.images([frame])[0], row) for frame, row in zip(frames, together, strict=True))
    assert len({row.tobytes() for row in together}) == len(frames)


def test_pooled_embedding_is_the_direction_of_the_mean() -> None:
    rows = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    assert pooled(rows) == pytest.approx([0.5**0.5, 0.5**0.5, 0])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("linear", [False, True], ids=["five layers", "one layer"])
def test_aesthetic_head_is_the_published_one(tmp_path, suffix, linear) -> None:
    """Against torch's own layers, named and ordered as in the published module."""
    file = tmp_path / f"head{suffix}"
    tensors = aesthetic_head(file, linear)
    rows = torch.nn.functional.normalize(torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(0)), dim=-1)
    if linear:
        module = torch.nn.Linear(WIDTH, 1)
        module.load_state_dict(tensors)
    else:
        shapes = [tensors[f"{layer}.weight"].shape for layer in LAYERS]
        parts = [torch.nn.Linear(s[1], s[0]) for s in shapes]
        published = [parts[0], torch.nn.Dropout(0.2), parts[1], torch.nn.Dropout(0.2), parts[2], torch.nn.Dropout(0.1)]
        module = torch.nn.Module()
        module.layers = torch.nn.Sequential(*published, parts[3], parts[4])
        module.load_state_dict(tensors)
        module = module.eval().layers
    expected = module(rows).detach().numpy()[:, 0]
    assert AestheticHead(file, WIDTH).scores(rows.numpy()) == pytest.approx(expected, rel=1e-5)


def test_aesthetic_head_of_another_kind_is_refused(tmp_path) -> None:
    aesthetic_head(tmp_path / "head.pth")
    with pytest.raises(GokuError, match=r"16 numbers.*gives 512.*ViT-L/14"):
        AestheticHead(tmp_path / "head.pth", 512)
    relu = {f"layers.{n}.{part}": torch.ones(1, 1) for n in (0, 3, 6, 9, 11) for part in ("weight", "bias")}
    torch.save(relu, tmp_path / "relu.pth")
    with pytest.raises(GokuError, match=r"not a head this scorer knows"):
        AestheticHead(tmp_path / "relu.pth", 1)


class Trap:
    """Unpickling it would make a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return (Path.touch, (self.place,))


def test_a_pickled_programme_is_refused_and_not_run(tmp_path) -> None:
    torch.save({"weight": Trap(tmp_path / "sprung")}, tmp_path / "head.pth")
    with pytest.raises(GokuError, match=r"head\.pth cannot be read as a file of tensors"):
        read_tensors(tmp_path / "head.pth")
    assert not (tmp_path / "sprung").exists()
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(GokuError, match=r"Download it again"):
        read_tensors(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("make, label", [(tiny_classifier, "NSFW"), (tiny_siglip, "watermark")], ids=["ViT", "SigLIP"])
def test_classifier_gives_the_softmax_of_its_label(tmp_path, make, label) -> None:
    from transformers import SiglipForImageClassification, ViTForImageClassification

    folder = make(tmp_path / "classifier")
    frames = pictures(5)
    kind = ViTForImageClassification if make is tiny_classifier else SiglipForImageClassification
    model = kind.from_pretrained(folder).eval()
    expected = []
    for frame in frames:
        image = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        with torch.no_grad():
            expected.append(model(normalised(image, [0.5] * 3, [0.5] * 3)).logits.softmax(-1)[0, 1].item())
    found = FrameClassifier(folder, label, batch=4).probabilities(frames)
    assert found == pytest.approx(expected, abs=1e-5) and np.ptp(found) > 1e-3


def test_label_that_a_classifier_lacks_is_named(tmp_path) -> None:
    folder = tiny_classifier(tmp_path / "nsfw")
    with pytest.raises(GokuError, match=r"no label 'porn'; it has: normal, nsfw"):
        FrameClassifier(folder, "porn")


def test_dinov2_features_are_the_class_token(tmp_path) -> None:
    from transformers import Dinov2Model

    folder = tiny_dinov2(tmp_path / "dinov2")
    frames = pictures(3)
    features = Dinov2Features(folder)
    rows = features.embed(frames)
    assert rows.dtype == np.float32 and rows.shape == (3, 32) and features.embed([]).shape == (0, 32)
    model = Dinov2Model.from_pretrained(folder).eval()
    for frame, row in zip(frames, rows, strict=True):
        image = centre(frame, 40, SIDE, Image.Resampling.BICUBIC)
        with torch.no_grad():
            hidden = model(normalised(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])).last_hidden_state
        expected = hidden[0, 0].numpy()
        assert row == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)


def test_weights_of_another_model_are_refused(tmp_path) -> None:
    """transformers would draw at random what is missing or of another shape, and only warn."""
    from safetensors.torch import load_file, save_file

    folder = tiny_dinov2(tmp_path / "dinov2")
    tensors = load_file(folder / "model.safetensors")
    lost = tensors.pop("layernorm.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(GokuError, match=r"lacks 1 tensors of Dinov2Model, the first is layernorm\.weight"):
        Dinov2Features(folder)
    save_file(tensors | {"layernorm.weight": lost[:8]}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(GokuError, match=r"lacks 1 tensors.*layernorm\.weight"):
        Dinov2Features(folder)


def test_missing_weights_are_one_clear_error(tmp_path, clip_folder) -> None:
    with pytest.raises(GokuError) as caught:
        weights.locate("nsfw", tmp_path / "nowhere", "curate.models.nsfw.weights")
    for word in ("curate.models.nsfw.weights", "nowhere", "hf download", "--local-dir", "docs/weights.md"):
        assert word in str(caught.value)
    with pytest.raises(GokuError, match=r"head\.bin is no weights file"):
        weights.locate("aesthetic", tmp_path / "head.bin", "key")
    with pytest.raises(GokuError, match=r"(?s)raft\.pth is not there.*download\.pytorch\.org"):
        weights.locate("raft", tmp_path / "raft.pth", "key")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for name in ("config.json", "preprocessor_config.json", "pytorch_model.bin"):
        (pickled / name).write_text("{}")
    with pytest.raises(GokuError, match=r"holds no \*\.safetensors"):
        weights.locate("clip", pickled, "key")
    assert weights.locate("clip", clip_folder, "key") == clip_folder
    for scorer in (Clip, Dinov2Features):
        with pytest.raises(GokuError, match=r"nowhere: the folder is not there"):
            scorer(tmp_path / "nowhere")


def test_weights_are_named_by_digest_and_licence(tmp_path, clip_folder) -> None:
    import hashlib

    data = (clip_folder / "model.safetensors").read_bytes()
    assert weights.digest(clip_folder) == hashlib.sha256(data).hexdigest() and weights.licence(clip_folder) == "mit"
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    both = weights.digest(tmp_path)
    (tmp_path / "b.safetensors").write_bytes(b"other")
    assert weights.digest(tmp_path) != both and weights.licence(tmp_path / "a.safetensors") == "not stated"


def test_document_of_weights_tells_what_messages_tell_and_its_parameters_are_real() -> None:
    import re

    import yaml

    from goku_core.curate import Request

    text = (Path(__file__).parents[2] / "docs/weights.md").read_text(encoding="utf-8")
    assert all(command in text for command in weights.SOURCES.values())
    (block,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert Request(**yaml.safe_load(block)["curate"]).models.on == ["clip", "aesthetic", "nsfw", "raft"]
