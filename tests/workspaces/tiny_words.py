"""Networks that answer in words, small and random, and their files under the names in which the real ones are published."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml
from torch import nn

from goku_core.evaluate.networks.words.bert import BertSize
from goku_core.evaluate.networks.words.blip import BlipSize, BlipVqa
from goku_core.evaluate.networks.words.mplug import Mplug, size_of
from goku_core.evaluate.networks.words.swin import SwinSize
from goku_core.evaluate.networks.words.tag2text import Tag2Text, Tag2TextSize

TEXT = BertSize(width=32, layers=2, heads=4, hidden=48, positions=48)
BLIP = BlipSize(side=32, patch=8, width=24, layers=2, heads=3, hidden=40, text=TEXT)
SWIN = SwinSize(side=48, patch=4, width=16, depths=(2, 2), heads=(2, 4), window=3)
TAGS = ("red", "green", "blue", "yellow", "alley", "sea", "a red circle")
TAG2TEXT = Tag2TextSize(picture=SWIN, text=TEXT, tags=len(TAGS), tagger_layers=2, tagger_heads=2)
MPLUG_CONFIG = {"image_res": 28, "clip_vision_width": 64, "clip_vision_layers": 2, "clip_vision_patch_size": 14}
MPLUG_BERT = {
    "vocab_size": 30522,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "num_hidden_layers": 4,
    "text_encoder_layers": 2,
    "fusion_layers": 3,
    "text_decode_layers": 2,
    "stride_layer": 2,
}
MPLUG = size_of(MPLUG_CONFIG, MPLUG_BERT)
KNOWN = {
    0: "[PAD]",
    100: "[UNK]",
    101: "[CLS]",
    102: "[SEP]",
    103: "[MASK]",
    2053: "no",
    2748: "yes",
    1064: "|",
    1029: "?",
}
MORE = (
    "a",
    "picture",
    "of",
    "red",
    "green",
    "blue",
    "yellow",
    "circle",
    "bench",
    "bowl",
    "is",
    "there",
    "the",
    "##s",
    "sea",
)


def vocabulary(file: Path) -> Path:
    """30,522 entries, of which 24 are words, the special ones where bert-base-uncased has them."""
    entries = {n: KNOWN.get(n, f"[unused{n}]") for n in range(30522)} | {3000 + n: word for n, word in enumerate(MORE)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(entries.values()) + "\n", encoding="utf-8")
    return file


def random(network: nn.Module, seed: int = 0) -> nn.Module:
    """Tensors large enough that every layer shows in what comes out."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            spread = 2.0 / tensor[0].numel() ** 0.5 if tensor.dim() > 1 else 1.0
            spread = 0.2 if name.endswith("bias") else 1.0 if "embed" in name or "token" in name else spread
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)
    return network.eval().requires_grad_(False)


def weights_of_words(folder: Path) -> Path:
    """A folder of weights in which all judges of words find what they need, with tensors that inference does not use."""
    vocabulary(folder / "bert-base-uncased" / "vocab.txt")
    blip = random(BlipVqa(BLIP)).state_dict() | {"text_encoder.embeddings.position_ids": torch.arange(48)[None]}
    torch.save({"model": blip, "epoch": 9}, folder / "model_base_vqa_capfilt_large.pth")
    tag2text = random(Tag2Text(TAG2TEXT), 1).state_dict()
    tag2text["visual_encoder.layers.0.blocks.1.attn_mask"] = torch.zeros(16, 9, 9)
    torch.save({"model": tag2text}, folder / "tag2text_swin_14m.pth")
    (folder / "tag2text_ori_tag_list.txt").write_text("\n".join(TAGS), encoding="utf-8")
    place = folder / "mplug_visual-question-answering_coco_large_en"
    vocabulary(place / "vocab.txt")
    (place / "config.yaml").write_text(yaml.safe_dump(MPLUG_CONFIG), encoding="utf-8")
    (place / "config_bert.json").write_text(json.dumps(MPLUG_BERT), encoding="utf-8")
    mplug = {f"model.{name}": tensor for name, tensor in random(Mplug(MPLUG), 2).state_dict().items()}
    mplug["model.text_decoder_m.cls.predictions.bias"] = torch.zeros(3)
    mplug["model.visual_encoder.token_embedding.weight"] = torch.zeros(3, 3)
    mplug["model.fusion_encoder.encoder.layer.0.intermediate.dense.bias"] = torch.zeros(48)
    torch.save({"module": mplug}, place / "pytorch_model.bin")
    chunks = {"a red bench and a blue bowl": ["a red bench", "top", "a blue bowl"], "nothing": []}
    (folder / "compbench").mkdir(exist_ok=True)
    (folder / "compbench" / "noun_chunks.json").write_text(json.dumps(chunks), encoding="utf-8")
    return folder
