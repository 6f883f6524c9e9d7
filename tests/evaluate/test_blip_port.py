"""BLIP-VQA: the published names and shapes, and transformers' network on the same random tensors."""

from __future__ import annotations

import re

import torch
from bert_shapes import bert_head, bert_layers, bert_words, linear, norm
from tiny_words import BLIP, random

from goku_core.evaluate.networks.words.blip import NO, YES, BlipVqa
from goku_core.evaluate.networks.words.wordpieces import WRITE


def published() -> dict[str, tuple[int, ...]]:
    """model_base_vqa_capfilt_large.pth: ViT-B/16 at 480 px, and med_config.json twice."""
    shapes: dict[str, tuple[int, ...]] = {
        "visual_encoder.cls_token": (1, 1, 768),
        "visual_encoder.pos_embed": (1, 901, 768),
        "visual_encoder.patch_embed.proj.weight": (768, 3, 16, 16),
        "visual_encoder.patch_embed.proj.bias": (768,),
    }
    for n in range(12):
        block = f"visual_encoder.blocks.{n}"
        shapes |= norm(f"{block}.norm1", 768) | norm(f"{block}.norm2", 768)
        shapes |= linear(f"{block}.attn.qkv", 2304, 768) | linear(f"{block}.attn.proj", 768, 768)
        shapes |= linear(f"{block}.mlp.fc1", 3072, 768) | linear(f"{block}.mlp.fc2", 768, 3072)
    shapes |= norm("visual_encoder.norm", 768)
    for part in ("text_encoder", "text_decoder.bert"):
        shapes |= bert_words(part, 30524) | bert_layers(part, 12, memory=768)
    return shapes | bert_head("text_decoder", 30524)


def test_names_and_shapes_of_the_checkpoint() -> None:
    with torch.device("meta"):
        found = {name: tuple(tensor.shape) for name, tensor in BlipVqa().state_dict().items()}
    assert found == published()


NAMES = (
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj", "vision_model.embeddings.patch_embedding"),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (r"^visual_encoder\.blocks\.", "vision_model.encoder.layers."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.attn\.qkv", ".self_attn.qkv"),
    (r"\.attn\.proj", ".self_attn.projection"),
)


def of_transformers(name: str) -> str:
    for pattern, other in NAMES:
        name = re.sub(pattern, other, name)
    return name


def test_logits_are_those_of_transformers_on_the_same_tensors() -> None:
    from transformers import BlipConfig, BlipForQuestionAnswering

    ours = random(BlipVqa(BLIP)).double()
    text = {
        "vocab_size": 30524,
        "hidden_size": 32,
        "encoder_hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 48,
    }
    vision = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
    vision |= {"image_size": 32, "patch_size": 8, "layer_norm_eps": 1e-6}
    config = BlipConfig(text_config=text, vision_config=vision, attn_implementation="eager")
    theirs = BlipForQuestionAnswering(config).double().eval()
    # transformers gives the writer the question encoder's `encoder_hidden_size`; BLIP's writer looks at its own width.
    for layer in theirs.text_decoder.bert.encoder.layer:
        for part in ("key", "value"):
            setattr(layer.crossattention.self, part, torch.nn.Linear(32, 32, dtype=torch.float64))
    head = theirs.text_decoder.cls.predictions
    head.decoder.weight = torch.nn.Parameter(head.decoder.weight.clone())
    theirs.load_state_dict({of_transformers(name): tensor for name, tensor in ours.state_dict().items()}, strict=True)

    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(1, 3, 32, 32, generator=generator, dtype=torch.float64)
    words = torch.randint(1000, 30000, (3, 6), generator=generator)
    real = torch.arange(6) < torch.tensor([[6], [4], [3]])
    with torch.inference_mode():
        picture = theirs.vision_model(pixel_values=pixels).last_hidden_state
        torch.testing.assert_close(ours.visual_encoder(pixels), picture, atol=1e-9, rtol=1e-9)
        # Question by question and without padding: transformers 5.23's writer does not heed `encoder_attention_mask`.
        alone = []
        for question, length in zip(words, real.sum(1).tolist(), strict=True):
            asked = theirs.text_encoder(question[None, :length], encoder_hidden_states=picture)[0]
            alone.append(theirs.text_decoder(torch.tensor([[WRITE]]), encoder_hidden_states=asked).logits[:, 0])
        logits = torch.cat(alone)
        torch.testing.assert_close(ours.answer(picture, words, real), logits, atol=1e-8, rtol=1e-8)
        shares = logits.softmax(-1)
        expected = shares[:, YES] / (shares[:, YES] + shares[:, NO])
        torch.testing.assert_close(ours(picture, words, real), expected, atol=1e-9, rtol=1e-6)
    assert len(set(expected.tolist())) == 3
