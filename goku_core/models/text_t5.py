"""Flan-T5 as the text encoder (paper section 2.2, Table 5: FLAN-T5 XL), through transformers.

Output is packed: padding is neither computed nor stored. Our choice against the padded 77 tokens seen elsewhere: dense captions
need more, and empty tokens would be attended to.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from goku_core.models.text import clean_caption

MISSING = (
    'Flan-T5 weights "{name}" are not here. Download them where the hub can be reached, for example\n'
    "  hf download google/flan-t5-xl --local-dir weights/flan-t5-xl\n"
    "and set precompute.text.weights to that folder; or use precompute.text.kind: words, which needs no download."
)


class T5Encoder:
    """Last hidden state of a T5 encoder, (M, d_model) float32 per caption."""

    def __init__(self, weights: str, max_tokens: int = 256) -> None:
        """weights: hub name or local folder. Raises FileNotFoundError saying how to get them."""
        from transformers import AutoTokenizer, T5EncoderModel

        folder = _folder(weights)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = T5EncoderModel.from_pretrained(folder, use_safetensors=True, local_files_only=True).eval()
        except OSError as error:
            raise FileNotFoundError(MISSING.format(name=weights)) from error
        self.width = int(self._model.config.d_model)
        self.max_tokens = max_tokens
        self._name = Path(weights).name

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, value in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.float().flatten()[:64].numpy().tobytes())
        return f"t5-v1-{self._name}-{self.max_tokens}-{digest.hexdigest()[:16]}"

    @torch.no_grad()
    def encode(self, text: str) -> Tensor:
        """A cleaned caption, cut to `max_tokens`. The empty caption gives the end token alone: the null text."""
        ids = self._tokenizer(
            clean_caption(text), truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).input_ids
        return self._model(input_ids=ids).last_hidden_state[0].float()


def _folder(weights: str) -> str:
    """The folder of the weights, downloaded from the hub where they are not here yet.

    The hub is asked once, by its own client: where it cannot be reached, transformers would ask again for most of a minute.
    """
    if Path(weights).is_dir():
        return weights
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return snapshot_download(weights, allow_patterns=["*.json", "*.safetensors", "spiece.model"])
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise FileNotFoundError(MISSING.format(name=weights)) from error
