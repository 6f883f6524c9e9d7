"""Tag2Text: the published names and shapes; Swin, tagger and sentences against transformers on the same random tensors."""

from __future__ import annotations

import re

import pytest
import torch
from bert_shapes import bert_head, bert_layers, bert_words, linear, norm
from tiny_words import SWIN, TAG2TEXT, TAGS, random, vocabulary

from goku_core.evaluate.networks.words import tag2text
from goku_core.evaluate.networks.words.swin import Swin
from goku_core.evaluate.networks.words.tag2text import Captioner, Tag2Text
from goku_core.evaluate.networks.words.wordpieces import Wordpieces
from goku_core.pipeline.errors import GokuError


def published() -> dict[str, tuple[int, ...]]:
    """tag2text_swin_14m.pth: config_swinB_384.json, med_config.json twice, q2l_config.json without self-attention."""
    shapes: dict[str, tuple[int, ...]] = {"visual_encoder.patch_embed.proj.weight": (128, 3, 4, 4)}
    shapes |= {"visual_encoder.patch_embed.proj.bias": (128,)} | norm("visual_encoder.patch_embed.norm", 128)
    for stage, (depth, heads) in enumerate(zip((2, 2, 18, 2), (4, 8, 16, 32), strict=True)):
        channels, place = 128 * 2**stage, f"visual_encoder.layers.{stage}"
        for n in range(depth):
            block = f"{place}.blocks.{n}"
            shapes[f"{block}.attn.relative_position_bias_table"] = (23 * 23, heads)
            shapes |= norm(f"{block}.norm1", channels) | norm(f"{block}.norm2", channels)
            shapes |= linear(f"{block}.attn.qkv", 3 * channels, channels) | linear(
                f"{block}.attn.proj", channels, channels
            )
            shapes |= linear(f"{block}.mlp.fc1", 4 * channels, channels) | linear(
                f"{block}.mlp.fc2", channels, 4 * channels
            )
        if stage < 3:
            shapes |= norm(f"{place}.downsample.norm", 4 * channels)
            shapes[f"{place}.downsample.reduction.weight"] = (2 * channels, 4 * channels)
    shapes |= norm("visual_encoder.norm", 1024)
    shapes |= {"label_embed.weight": (3429, 768), "fc.W": (1, 3429, 768), "fc.b": (1, 3429)}
    shapes |= bert_layers("vision_multi", 2, memory=1024, alone=False)
    shapes |= bert_words("tag_encoder", 30524) | bert_layers("tag_encoder", 12, memory=1024)
    shapes |= bert_words("text_decoder.bert", 30524) | bert_layers("text_decoder.bert", 12, memory=768)
    return shapes | bert_head("text_decoder", 30524)


def test_names_and_shapes_of_the_checkpoint() -> None:
    with torch.device("meta"):
        found = {name: tuple(tensor.shape) for name, tensor in Tag2Text().state_dict().items()}
    assert found == published()


# Those of transformers 5.23; earlier ones below.
NAMES = (
    (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
    (r"^patch_embed\.norm", "embeddings.norm"),
    (r"^norm\.", "layernorm."),
    (r"^layers\.", "encoder.layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.relative", ".attention.relative_position_bias.relative"),
    (r"\.attn\.proj\.", ".attention.o_proj."),
)
EARLIER = {
    ".relative_position_bias.": ".self.",
    ".q_proj.": ".self.query.",
    ".k_proj.": ".self.key.",
    ".v_proj.": ".self.value.",
    ".o_proj.": ".output.dense.",
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
}


def of_transformers(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in tensors.items():
        for pattern, other in NAMES:
            name = re.sub(pattern, other, name)
        if ".attn.qkv." in name:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                found[name.replace(".attn.qkv.", f".attention.{part}_proj.")] = piece
        else:
            found[name] = tensor
    return found


@pytest.mark.parametrize("side", [48, 24])
def test_swin_is_that_of_transformers(side: int) -> None:
    """48 px: shifted windows in both stages; 24 px: the second stage is one window, which is not shifted."""
    from dataclasses import replace

    from transformers import SwinConfig, SwinModel

    size = replace(SWIN, side=side)
    ours = random(Swin(size), 4)
    sizes = {
        "image_size": side,
        "patch_size": 4,
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "window_size": 3,
    }
    theirs = SwinModel(SwinConfig(**sizes, drop_path_rate=0.0)).eval()
    tensors = of_transformers(ours.state_dict())
    if "encoder.layers.0.blocks.0.attention.q_proj.weight" not in theirs.state_dict():
        for new, old in EARLIER.items():
            tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    lost, beyond = theirs.load_state_dict(tensors, strict=False)
    assert not beyond and all(name.endswith("relative_position_index") for name in lost)
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(5))
    expected = theirs(pixels)
    found = ours(pixels)
    torch.testing.assert_close(found[:, 1:], expected.last_hidden_state, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found[:, 0], expected.pooler_output, atol=1e-3, rtol=1e-3)


def attended(layer, x: torch.Tensor, source: torch.Tensor, heads: int) -> torch.Tensor:
    """One cross-attention with its feed-forward half, head by head."""
    cross, per = layer.crossattention, x.shape[-1] // heads
    query, keys, values = (
        cross.self["query"](x), cross.self["key"](source), cross.self["value"](source)
    )  # fmt: skip
    parts = []
    for n in range(heads):
        span = slice(n * per, (n + 1) * per)
        shares = (query[..., span] @ keys[..., span].transpose(1, 2) / per**0.5).softmax(-1)
        parts.append(shares @ values[..., span])
    x = cross.output["LayerNorm"](cross.output["dense"](torch.cat(parts, -1)) + x)
    hidden = torch.nn.functional.gelu(layer.intermediate["dense"](x))
    return layer.output["LayerNorm"](layer.output["dense"](hidden) + x)


def test_the_tagger_head_by_head() -> None:
    network = random(Tag2Text(TAG2TEXT), 6)
    pictures = torch.randn(2, 37, SWIN.out, generator=torch.Generator().manual_seed(7))
    x = network.label_embed.weight.repeat(2, 1, 1)
    for layer in network.vision_multi.encoder.layer:
        x = attended(layer, x, pictures, heads=2)
    expected = torch.stack([(x[:, n] * network.fc.W[0, n]).sum(-1) + network.fc.b[0, n] for n in range(len(TAGS))], 1)
    torch.testing.assert_close(network.tag_logits(pictures), expected, atol=1e-3, rtol=1e-4)


def test_what_is_told_is_what_the_published_code_tells_transformers(tmp_path) -> None:
    """Tags to words to states through transformers' BLIP text layers, whose tensors have the same names."""
    from transformers import BlipTextConfig
    from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel, BlipTextModel

    network = random(Tag2Text(TAG2TEXT), 8)
    sizes = {"vocab_size": 30524, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "max_position_embeddings": 48}
    reader = BlipTextModel(BlipTextConfig(**sizes, encoder_hidden_size=SWIN.out), add_pooling_layer=False).eval()
    reader.load_state_dict(network.tag_encoder.state_dict(), strict=True)
    writer = BlipTextLMHeadModel(BlipTextConfig(**sizes, encoder_hidden_size=32)).eval()
    head = writer.cls.predictions
    head.decoder.weight = torch.nn.Parameter(head.decoder.weight.clone())
    writer.load_state_dict(network.text_decoder.state_dict(), strict=True)

    captioner = Captioner(network, list(TAGS), Wordpieces(vocabulary(tmp_path / "vocab.txt")))
    pictures = torch.randn(1, 37, SWIN.out, generator=torch.Generator().manual_seed(9))
    wanted = {}
    network.write = lambda described, prompt: wanted.update(described=described, prompt=prompt) or [prompt[0].tolist()]
    with torch.inference_mode():
        sentences, (tags,) = captioner.captions(pictures)
        assert sentences == [""]  # the prompt is cut off, also where nothing follows it
        said = " | ".join(tags)
        words = torch.tensor([captioner.wordpieces.numbers(said, 40)])
        words = torch.cat([words, torch.zeros(1, 40 - words.shape[1], dtype=torch.long)], 1)
        words[0, 0] = 30523
        states = reader(words, (words != 0).long(), encoder_hidden_states=pictures)[0]
        torch.testing.assert_close(wanted["described"], states, atol=1e-3, rtol=1e-3)
        assert wanted["prompt"].tolist() == [[30522, 3000, 3001, 3002]]  # "a picture of", without the end
        texts = torch.tensor([[30522, 3000, 3001, 3002, 3003]])
        expected = writer(input_ids=texts, encoder_hidden_states=states).logits[:, -1]
        found = network.text_decoder(texts, network.text_decoder.recall(states))
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)
    above = network.tag_logits(pictures)[0].sigmoid() > 0.7
    assert tags == [tag for tag, yes in zip(TAGS, above, strict=True) if yes]


def test_tags_that_are_never_named_and_lists_that_do_not_fit(tmp_path) -> None:
    size = tag2text.PUBLISHED
    words = [f"tag {n}" for n in range(size.tags)]
    with torch.device("meta"):
        whole = Captioner(Tag2Text(), words, Wordpieces(vocabulary(tmp_path / "vocab.txt")))
    logits = torch.full((size.tags,), -9.0)
    logits[[126, 127, 128, 3351, 3359, 3360]] = torch.tensor([0.86, 9.0, 0.84, 9.0, 9.0, 9.0])
    assert whole.named(logits) == ["tag 126", "tag 3360"]  # sigmoid(0.847) = 0.7
    with pytest.raises(GokuError, match="has 3428 tags, the network 3429"):
        Captioner(whole.network, words[1:], whole.wordpieces)
