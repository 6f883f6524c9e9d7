"""Flan-T5 through transformers, on a tiny random one made here."""

from pathlib import Path

import pytest
import torch

from goku_core.models.folders import text_encoder
from goku_core.models.text import clean_caption, pack_texts


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    folder = tmp_path_factory.mktemp("t5")
    known = ["<pad>", "</s>", "<unk>", "a", "red", "circle", "blue", "square"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(known)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    T5EncoderModel(T5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)).save_pretrained(
        folder
    )
    return folder


def test_packed_features_equal_the_model_itself(weights: Path) -> None:
    from transformers import T5EncoderModel

    encoder = text_encoder({"kind": "t5", "weights": str(weights), "max_tokens": 8, "width": 0})
    encoded = [encoder.encode("a red circle"), encoder.encode("")]
    text, bounds = pack_texts(encoded)
    assert bounds.tolist() == [0, 4, 5] and text.shape == (5, encoder.width)
    model = T5EncoderModel.from_pretrained(weights).eval()
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[3, 4, 5, 1]])).last_hidden_state[0]
    assert torch.allclose(text[:4], expected, atol=1e-6)


@pytest.mark.parametrize("tokens", [1, 9, 1000])
def test_captions_in_batches_equal_captions_one_by_one(weights: Path, tokens: int) -> None:
    encoder = text_encoder({"kind": "t5", "weights": str(weights), "max_tokens": 8, "width": 0})
    texts = ["a red circle", "", "a blue square a red circle a blue square", "red", "a", "a red circle"]
    calls, model = [], encoder._model.forward
    encoder._model.forward = lambda input_ids, **more: (
        calls.append(input_ids.shape) or model(input_ids=input_ids, **more)
    )
    together = encoder.encode_batch(texts, tokens)
    assert len(calls) == {1: 6, 9: 3, 1000: 1}[tokens] and all(r == 1 or r * c <= tokens for r, c in calls)
    for text, found in zip(texts, together, strict=True):
        assert torch.allclose(found, encoder.encode(text), atol=1e-5)
    assert encoder.encode_batch([], tokens) == []


def test_a_change_anywhere_in_the_weights_is_another_fingerprint(weights: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    other = tmp_path / weights.name
    shutil.copytree(weights, other)
    spec = {"kind": "t5", "weights": str(weights), "max_tokens": 8, "width": 0}
    same = text_encoder({**spec, "weights": str(other)})
    assert same.fingerprint == text_encoder(spec).fingerprint
    state = load_file(other / "model.safetensors")
    value = max(state.values(), key=torch.Tensor.numel)
    value.view(-1)[-1] += 1e-3
    save_file(state, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="the texts were encoded by"):
        text_encoder({**spec, "weights": str(other)}, same.fingerprint)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A red circle, left of a Blue square.", "A red circle, left of a Blue square."),
        ("fish &amp;amp; chips &quot;fresh&quot;", 'fish & chips "fresh"'),
        ("<b>Sale</b> 3 < 5 <br/>now", "Sale 3 < 5 now"),
        ("see https://example.org/a?b=c or mail me@example.org today", "see or mail today"),
        ("ﬁne\u200b ｆｕｌｌ\twidth\n line", "fine full width line"),
        ("", ""),
    ],
)
def test_captions_are_cleaned_before_they_are_encoded(weights: Path, raw: str, clean: str) -> None:
    assert clean_caption(raw) == clean
    encoder = text_encoder({"kind": "t5", "weights": str(weights), "max_tokens": 32, "width": 0})
    assert torch.equal(encoder.encode(raw), encoder.encode(clean))


def test_long_captions_are_cut_and_the_fingerprint_names_the_weights(weights: Path) -> None:
    encoder = text_encoder({"kind": "t5", "weights": str(weights), "max_tokens": 3, "width": 0})
    assert len(encoder.encode("a red circle a blue square")) == 3
    other = text_encoder({"kind": "t5", "weights": str(weights), "max_tokens": 4, "width": 0})
    assert encoder.fingerprint != other.fingerprint
    with torch.no_grad():
        encoder._model.shared.weight.add_(1.0)
    assert (
        encoder.fingerprint
        != text_encoder({"kind": "t5", "weights": str(weights), "max_tokens": 3, "width": 0}).fingerprint
    )


def test_missing_weights_say_how_to_get_them() -> None:
    with pytest.raises(FileNotFoundError, match="hf download google/flan-t5-xl"):
        text_encoder({"kind": "t5", "weights": "weights/flan-t5-xl", "max_tokens": 8, "width": 0})
