"""mPLUG: the published names and shapes; its parts against transformers' CLIP and BERT on the same random tensors."""

from __future__ import annotations

from dataclasses import replace

import torch
from bert_shapes import bert_head, bert_layers, bert_words, linear, norm
from tiny_words import MPLUG, random

from goku_core.evaluate.networks.words.bert import seen
from goku_core.evaluate.networks.words.mplug import ClipVision, Fusion, Mplug, size_of

# config_bert.json of the model, as its authors' repository has it.
BERT = {"vocab_size": 30522, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
BERT |= {"max_position_embeddings": 512, "type_vocab_size": 2, "num_hidden_layers": 12, "text_encoder_layers": 6}
BERT |= {"fusion_layers": 6, "text_decode_layers": 12, "stride_layer": 6}


def published() -> dict[str, tuple[int, ...]]:
    """What inference needs of pytorch_model.bin: ViT-L/14 at 504 px, 6 + 6 (the last of 12) + 12 layers of BERT."""
    visual = "visual_encoder.visual"
    shapes: dict[str, tuple[int, ...]] = {
        f"{visual}.class_embedding": (1024,),
        f"{visual}.positional_embedding": (36 * 36 + 1, 1024),
        f"{visual}.conv1.weight": (1024, 3, 14, 14),
    }
    shapes |= norm(f"{visual}.ln_pre", 1024) | norm(f"{visual}.ln_post", 1024)
    for n in range(24):
        block = f"{visual}.transformer.resblocks.{n}"
        shapes |= {f"{block}.attn.in_proj_weight": (3072, 1024), f"{block}.attn.in_proj_bias": (3072,)}
        shapes |= linear(f"{block}.attn.out_proj", 1024, 1024) | norm(f"{block}.ln_1", 1024)
        shapes |= linear(f"{block}.mlp.c_fc", 4096, 1024) | linear(f"{block}.mlp.c_proj", 1024, 4096)
        shapes |= norm(f"{block}.ln_2", 1024)
    shapes |= linear("visn_fc", 768, 1024) | norm("visn_layer_norm", 768)
    for part in ("text_encoder", "text_decoder.bert"):
        shapes |= bert_words(part, 30522) | {f"{part}.embeddings.token_type_embeddings.weight": (2, 768)}
    shapes |= bert_layers("text_encoder", 6, memory=0) | bert_layers("text_decoder.bert", 12, memory=768)
    fusion = bert_layers("fusion_encoder", 12, memory=768)
    used = {f"fusion_encoder.encoder.layer.{n}." for n in range(6, 12)}
    shapes |= {name: shape for name, shape in fusion.items() if name.startswith(tuple(used))}
    return shapes | bert_head("text_decoder", 30522)


def test_names_and_shapes_of_the_checkpoint() -> None:
    size = size_of({}, BERT)
    with torch.device("meta"):
        found = {name: tuple(tensor.shape) for name, tensor in Mplug(size).state_dict().items()}
    assert found == published()
    assert (size.beams, size.least, size.most, size.heads) == (5, 1, 10, 16)


def test_vision_is_clip_of_transformers() -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    ours = random(ClipVision(MPLUG), 1)
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    theirs = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=28, patch_size=14, hidden_act="quick_gelu")).eval()
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in theirs.state_dict()) else ""
    tensors = {}
    for name, tensor in ours.state_dict().items():
        if "in_proj" in name:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                tensors[name.replace("in_proj_", f"{part}_proj.")] = piece
        else:
            tensors[name] = tensor
    names = {
        "transformer.resblocks": "encoder.layers",
        ".attn.": ".self_attn.",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "ln_pre": "pre_layrnorm",
        "ln_post": "post_layernorm",
        "conv1": "embeddings.patch_embedding",
        "class_embedding": "embeddings.class_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
    }
    renamed = {}
    for name, tensor in tensors.items():
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[prefix + name] = tensor
    lost, beyond = theirs.load_state_dict(renamed, strict=False)
    assert not beyond and all("position_ids" in name for name in lost)
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(2))
    tower = theirs.vision_model if prefix else theirs
    expected = tower.post_layernorm(theirs(pixels).last_hidden_state)
    torch.testing.assert_close(ours(pixels), expected, atol=1e-3, rtol=1e-3)


def test_fusion_layer_by_layer_through_transformers() -> None:
    """Layers 1, 2, 3 of 4, stride 2: cross, cross, and in the third one attention over picture and words together."""
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    ours = random(Fusion(MPLUG), 3)
    sizes = {"vocab_size": 9, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    config = BertConfig(**sizes, is_decoder=True, add_cross_attention=True, attn_implementation="eager")
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    layers = []
    for layer in ours.encoder["layer"].values():
        layers.append(BertLayer(config, layer_idx=0).eval())
        layers[-1].load_state_dict(layer.state_dict(), strict=True)
    generator = torch.Generator().manual_seed(4)
    words, picture = torch.randn(3, 5, 32, generator=generator), torch.randn(1, 7, 32, generator=generator)
    real = torch.arange(5) < torch.tensor([[5], [4], [2]])

    def shut(may: torch.Tensor) -> torch.Tensor:
        return torch.zeros(may.shape).masked_fill(~may, -1e9)[:, None, None, :]

    expected, looked = words, picture.expand(3, -1, -1)
    for n, layer in enumerate(layers):
        if n == 2:
            both, may = torch.cat([looked, expected], 1), torch.cat([torch.ones(3, 7, dtype=torch.bool), real], 1)
            layer.add_cross_attention = False
            out = first(layer.attention(both, attention_mask=shut(may)))
            out = layer.feed_forward_chunk(out)
            looked, expected = looked + out[:, :7], out[:, 7:]
        else:
            x = first(layer.attention(expected, attention_mask=shut(real)))
            x = first(layer.crossattention(x, encoder_hidden_states=looked))
            expected = layer.feed_forward_chunk(x)
    found_picture, found = ours(words, picture, real)
    torch.testing.assert_close(found[real], expected[real], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found_picture, looked, atol=1e-4, rtol=1e-4)


def first(out):
    return out[0] if isinstance(out, tuple) else out


def test_answers_do_not_depend_on_the_other_questions_nor_on_padding() -> None:
    network = random(Mplug(MPLUG), 5)
    generator = torch.Generator().manual_seed(6)
    words = torch.randint(1000, 30000, (4, 8), generator=generator)
    real = torch.arange(8) < torch.tensor([[8], [5], [6], [3]])
    picture = network.look(torch.randn(1, 3, 28, 28, generator=generator))
    together = network.answers(picture, words, real)
    assert len({tuple(answer) for answer in together}) > 1
    for n, length in enumerate((8, 5, 6, 3)):
        alone = network.answers(picture, words[n : n + 1, :length], real[n : n + 1, :length])
        assert alone == [together[n]]
        assert together[n][0] == 101 and len(together[n]) <= 11


def test_without_a_stride_the_picture_stays_as_it_is() -> None:
    """The published stride is as large as the number of layers: words look at the picture, which does not look back."""
    network = random(Fusion(replace(MPLUG, stride=3)), 7)
    words, picture = torch.randn(2, 4, 32), torch.randn(1, 6, 32)
    real = torch.ones(2, 4, dtype=torch.bool)
    kept, found = network(words, picture, real)
    assert kept is picture and seen(real).shape == (2, 1, 1, 4) and not torch.equal(found, words)
