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
            bits = value.float().cpu().flatten().view(torch.int32)
            digest.update(name.encode())
            digest.update(bits[:64].numpy().tobytes())
            # All values count, at the speed of memory; a sum of integers is the same in whatever order it is taken.
            digest.update(str(int(bits.sum(dtype=torch.int64))).encode())
        return f"t5-v2-{self._name}-{self.max_tokens}-{digest.hexdigest()[:16]}"

    def encode(self, text: str) -> Tensor:
        """A cleaned caption, cut to `max_tokens`. The empty caption gives the end token alone: the null text."""
        return self.encode_batch([text], self.max_tokens)[0]

    @torch.no_grad()
    def encode_batch(self, texts: list[str], tokens: int) -> list[Tensor]:
        """`encode` of each, captions of like length together, in calls of at most `tokens` tokens with their padding."""
        cleaned = [clean_caption(text) for text in texts]
        ids = self._tokenizer(cleaned, truncation=True, max_length=self.max_tokens).input_ids if cleaned else []
        found: dict[int, Tensor] = {}
        for places in _together([len(sequence) for sequence in ids], tokens):
            longest = max(len(ids[place]) for place in places)
            padded = torch.zeros(len(places), longest, dtype=torch.long)
            mask = torch.zeros_like(padded)
            for row, place in enumerate(places):
                padded[row, : len(ids[place])] = torch.tensor(ids[place])
                mask[row, : len(ids[place])] = 1
            device = self._model.device
            states = self._model(input_ids=padded.to(device), attention_mask=mask.to(device)).last_hidden_state
            for row, place in enumerate(places):
                found[place] = states[row, : len(ids[place])].float().cpu()
        return [found[place] for place in range(len(texts))]

    def to(self, device: torch.device) -> T5Encoder:
        self._model.to(device)
        return self


def _together(lengths: list[int], tokens: int) -> list[list[int]]:
    """Places in groups of like length, each of at most `tokens` tokens when padded to its longest, at least one in each."""
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if groups and (len(groups[-1]) + 1) * lengths[place] <= tokens:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


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
