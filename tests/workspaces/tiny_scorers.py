"""Checkpoints of scorers, small and random, in the layouts in which the real ones are published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
SIDE = 32  # px, what the tiny networks look at
WIDTH = 16  # of a CLIP embedding
HEAD = ((16, 8), (8, 4), (4, 4), (4, 2), (2, 1))  # the five layers of the aesthetic head, LAION's being 768 to 1


def tiny_clip(folder: Path) -> Path:
    """Both towers, a tokenizer of letters, and preprocessing as OpenAI's folder has it (an old form)."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    torch.manual_seed(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", *letters, *(f"{letter}</w>" for letter in letters), "<|endoftext|>"]
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = sizes | {"vocab_size": len(words), "max_position_embeddings": 16}
    text |= {"bos_token_id": 0, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    vision = sizes | {"image_size": SIDE, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))
    model.save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate(words)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16).save_pretrained(folder)
    _preprocessing(
        folder, "CLIPFeatureExtractor", CLIP_MEAN, CLIP_STD, resample=3, size=SIDE, crop_size=SIDE, do_center_crop=True
    )
    (folder / "README.md").write_text("---\nlicense: mit\ntags:\n- vision\n---\n\n# A card\n", encoding="utf-8")
    return folder


def tiny_classifier(folder: Path, labels: tuple[str, ...] = ("normal", "nsfw")) -> Path:
    """A ViT that squeezes pictures into a square, as the published classifier does."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(2)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = ViTConfig(**sizes, image_size=SIDE, patch_size=8, id2label=dict(enumerate(labels)))
    model = ViTForImageClassification(config)
    torch.nn.init.normal_(model.classifier.weight, std=0.5)  # else every picture is as likely as any other
    model.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    _preprocessing(folder, "ViTImageProcessor", [0.5] * 3, [0.5] * 3, resample=2, size=size)
    return folder


def tiny_siglip(folder: Path) -> Path:
    """A SigLIP classifier, the kind of the watermark model that the documents name."""
    from transformers import SiglipConfig, SiglipForImageClassification

    torch.manual_seed(6)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SiglipConfig(vision_config=sizes | {"image_size": SIDE, "patch_size": 8}, text_config=sizes)
    config.id2label = {0: "No Watermark", 1: "Watermark"}
    SiglipForImageClassification(config).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    _preprocessing(folder, "SiglipImageProcessor", [0.5] * 3, [0.5] * 3, resample=2, size=size)
    return folder


def tiny_dinov2(folder: Path) -> Path:
    """Shorter side to 40, centre of 32: Meta's 256 and 224."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8}
    Dinov2Model(Dinov2Config(**sizes)).save_pretrained(folder)
    mean, std, crop = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], {"height": SIDE, "width": SIDE}
    size = {"shortest_edge": 40}
    _preprocessing(folder, "BitImageProcessor", mean, std, resample=3, size=size, crop_size=crop, do_center_crop=True)
    return folder


def aesthetic_head(file: Path, linear: bool = False, width: int = WIDTH) -> dict[str, torch.Tensor]:
    """Writes a head in either published layout, .pth or .safetensors; returns its tensors."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(4)
    layers = [("", (width, 1))] if linear else [(f"layers.{n}.", s) for n, s in zip((0, 2, 4, 6, 7), HEAD, strict=True)]
    tensors = {}
    for name, (given, made) in layers:
        tensors[f"{name}weight"] = torch.randn(made, given, generator=generator)
        tensors[f"{name}bias"] = torch.randn(made, generator=generator) + 2.0
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)
    return tensors


def random_raft(file: Path, large: bool = False) -> Path:
    """A file of tensors with the names and shapes of the published ones."""
    from safetensors.torch import save_file

    from goku_core.scorers.raft import LARGE, SMALL, Raft

    torch.manual_seed(5)
    tensors = Raft(LARGE if large else SMALL).state_dict()
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)
    return file


def pictures(count: int, seed: int = 0, height: int = 90, width: int = 160) -> list[np.ndarray]:
    """uint8 (H, W, 3), each another coarse pattern."""
    import cv2

    rng = np.random.default_rng(seed)
    coarse = (rng.integers(0, 256, (5, 8, 3)).astype(np.uint8) for _ in range(count))
    return [cv2.resize(pattern, (width, height), interpolation=cv2.INTER_CUBIC) for pattern in coarse]


def _preprocessing(folder: Path, kind: str, mean: list[float], std: list[float], **more: object) -> None:
    key = "feature_extractor_type" if kind.endswith("Extractor") else "image_processor_type"
    told = {key: kind, "do_resize": True, "do_normalize": True, "image_mean": mean, "image_std": std} | more
    (folder / "preprocessor_config.json").write_text(json.dumps(told), encoding="utf-8")


def formula_tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """float64 tensors that any version of any library draws alike: noise by formula, scaled as an initialisation would be."""
    tensors = {}
    for name, shape in sorted(shapes.items()):
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.zeros((), dtype=torch.int64)
            continue
        count = int(np.prod(shape))
        places = np.arange(count) + 1000.0 * len(name) + sum(map(ord, name))
        noise = 2 * np.modf(np.abs(np.sin(places * 12.9898) * 4375.85))[0] - 1
        scale = np.sqrt(6 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        values = 1.0 + 0.2 * noise if name.endswith(("running_var", "1.weight")) and len(shape) == 1 else scale * noise
        tensors[name] = torch.from_numpy(values.reshape(shape))
    return tensors


def formula_pair(height: int = 136, width: int = 160) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures of one pattern, the second 4 px to the right and 2 down: float64 (1, 3, H, W), -1 to 1."""
    y, x = np.mgrid[:height, :width].astype(np.float64)

    def draw(x: np.ndarray, y: np.ndarray) -> torch.Tensor:
        waves = [np.sin(0.11 * x + 0.05 * y * k) * np.cos(0.07 * y - 0.03 * x * k) for k in (1, 2, 3)]
        return torch.from_numpy(np.stack(waves)[None])

    return draw(x, y), draw(x - 4, y - 2)
