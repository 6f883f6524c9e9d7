"""BERT with cross-attention against transformers' own, wordpieces by hand, what checkpoints hold beyond it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_words import random, vocabulary

from goku_core.evaluate.judges.words.asking import square
from goku_core.evaluate.networks.words.bert import BertSize, BertText, BertWriter
from goku_core.evaluate.networks.words.checkpoints import without
from goku_core.evaluate.networks.words.wordpieces import Wordpieces

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 48, "max_position_embeddings": 48}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def test_states_are_those_of_transformers_bert() -> None:
    from transformers import BertConfig, BertModel

    ours = random(BertText(BertSize(50, 32, 2, 4, 48, 48, types=2)))
    theirs = BertModel(BertConfig(**SIZES, **QUIET, type_vocab_size=2), add_pooling_layer=False).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    words = torch.randint(3, 50, (3, 7), generator=torch.Generator().manual_seed(1))
    real = torch.arange(7) < torch.tensor([[7], [4], [1]])
    expected = theirs(words, attention_mask=real.long()).last_hidden_state
    torch.testing.assert_close(ours(words, real)[real], expected[real], atol=1e-5, rtol=1e-5)


def test_next_words_are_those_of_transformers_decoder() -> None:
    from transformers import BertConfig, BertLMHeadModel

    ours = random(BertWriter(BertSize(50, 32, 2, 4, 48, 48, types=2, memory=32)))
    config = BertConfig(**SIZES, **QUIET, type_vocab_size=2, is_decoder=True, add_cross_attention=True)
    theirs = BertLMHeadModel(config).eval()
    theirs.cls.predictions.decoder.weight = torch.nn.Parameter(theirs.cls.predictions.decoder.weight.clone())
    theirs.load_state_dict(ours.state_dict(), strict=True)
    generator = torch.Generator().manual_seed(2)
    words, source = torch.randint(3, 50, (6, 5), generator=generator), torch.randn(2, 9, 32, generator=generator)
    recallable = torch.arange(9) < torch.tensor([[9], [6]])
    shared = ours(words, ours.recall(source), recallable)
    # Three texts share what they look at; transformers is given a copy for each.
    expected = theirs(
        words,
        encoder_hidden_states=source.repeat_interleave(3, 0),
        encoder_attention_mask=recallable.repeat_interleave(3, 0).long(),
    ).logits[:, -1]
    torch.testing.assert_close(shared, expected, atol=1e-4, rtol=1e-5)
    longer = torch.cat([words, words], dim=1)
    at_five = ours.cls["predictions"](ours.bert(longer, memory=ours.recall(source), recallable=recallable, causal=True))
    torch.testing.assert_close(at_five[:, 4], shared, atol=1e-4, rtol=1e-5)  # later words are not seen


def test_wordpieces(tmp_path: Path) -> None:
    pieces = Wordpieces(vocabulary(tmp_path / "vocab.txt"))
    assert pieces.numbers("Is there a Red circles?", 35) == [101, 3010, 3011, 3000, 3003, 3007, 3013, 1029, 102]
    assert pieces.numbers("a a a a a a", 4) == [101, 3000, 3000, 102]
    words, real = pieces.table(["yes", "no no"], 6)
    assert words.tolist() == [[101, 2748, 102, 0], [101, 2053, 2053, 102]] and real[0].tolist() == [True] * 3 + [False]
    assert pieces.table(["yes"], 6, fill=True)[0].shape == (1, 6)
    assert pieces.text([101, 3000, 3003, 3007, 3013, 1029, 102, 0, 30522, 30523]) == "a red circles?"


def test_a_picture_becomes_a_square() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    found = square(picture, 16)
    small = Image.fromarray(picture).resize((16, 16), Image.Resampling.BICUBIC)
    assert found.shape == (16, 16, 3) and tuple(found[5, 7]) == small.getpixel((7, 5))


def test_what_inference_does_not_need_is_left_out_and_nothing_else() -> None:
    tensors = {name: torch.zeros(1) for name in ("a.position_ids", "a.position_ids_too", "b_m.x", "b.x", "layer.11.y")}
    assert list(without(tensors, [r"\.position_ids$", r"^b_m\.", r"^layer\.(0|1)\."])) == [
        "a.position_ids_too",
        "b.x",
        "layer.11.y",
    ]
