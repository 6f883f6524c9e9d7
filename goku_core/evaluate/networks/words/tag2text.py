"""Tag2Text (arXiv 2303.05657): Swin-B at 384 px names what it sees and writes a sentence about it.

Names and sizes are those of `tag2text_swin_14m.pth` as VBench loads it (vbench/third_party/tag2Text, commit 45e79ec:
med_config.json, q2l_config.json, config_swinB_384.json). VBench's own settings, not those of the authors' later code: tags
from 0.7 on, six tags never named, three beams, a sentence of 10 to 30 words of the vocabulary with its prompt.
Unverified against official values: nobody has run the published tensors through this code yet; its parts are checked
against transformers' Swin and BLIP text layers on random tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from goku_core.evaluate.networks.words.beams import by_mean
from goku_core.evaluate.networks.words.bert import BASE, BertSize, BertText, BertWriter, Stack
from goku_core.evaluate.networks.words.checkpoints import without
from goku_core.evaluate.networks.words.swin import SWIN_B, Swin, SwinSize
from goku_core.evaluate.networks.words.wordpieces import ASK, END, WRITE, Wordpieces
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source
from goku_core.scorers.tensors import adopt, read_tensors

SOURCE = Source(
    "Tag2Text Swin-B",
    "tag2text_swin_14m.pth",
    "curl -L -o weights/tag2text_swin_14m.pth "
    "https://huggingface.co/spaces/xinyu1205/recognize-anything/resolve/main/tag2text_swin_14m.pth",
    "Apache-2.0 (the code's; published beside it)",
)
TAGS = Source(
    "Tag2Text tags",
    "tag2text_ori_tag_list.txt",
    "curl -L -o weights/tag2text_ori_tag_list.txt "
    "https://raw.githubusercontent.com/xinyu1205/recognize-anything/main/ram/data/tag2text_ori_tag_list.txt",
    "Apache-2.0",
)
PROMPT = "a picture of "
THRESHOLD = 0.7
NEVER = (127, 3351, 3265, 3338, 3355, 3359)
"""Tags that are not named: quarter, two, three, four, five, one."""
TAG_WORDS = 40
BEAMS, LEAST, MOST = 3, 10, 30
SPARE = (r"\.position_ids$", r"\.relative_position_index$", r"\.attn_mask$")


@dataclass(frozen=True)
class Tag2TextSize:
    """The published model. tagger: of the head that decides which tags apply."""

    picture: SwinSize = SWIN_B
    text: BertSize = BASE
    tags: int = 3429
    tagger_layers: int = 2
    tagger_heads: int = 4


PUBLISHED = Tag2TextSize()


class _OneByOne(nn.Module):
    """A linear function of its own for each tag."""

    def __init__(self, tags: int, width: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(1, tags, width))
        self.b = nn.Parameter(torch.zeros(1, tags))

    def forward(self, x: Tensor) -> Tensor:
        """(B, tags, width) -> (B, tags)."""
        return (self.W * x).sum(-1) + self.b


class _Tagger(nn.Module):
    """Cross-attention only; named as the BERT it was cut out of."""

    def __init__(self, size: BertSize) -> None:
        super().__init__()
        self.encoder = Stack(size)


class Tag2Text(nn.Module):
    def __init__(self, size: Tag2TextSize = PUBLISHED) -> None:
        super().__init__()
        self.size = size
        read = replace(size.text, memory=size.picture.out)
        self.visual_encoder = Swin(size.picture)
        self.tag_encoder = BertText(read)
        self.vision_multi = _Tagger(replace(read, layers=size.tagger_layers, heads=size.tagger_heads, alone=False))
        self.label_embed = nn.Embedding(size.tags, size.text.width)
        self.fc = _OneByOne(size.tags, size.text.width)
        self.text_decoder = BertWriter(replace(size.text, memory=size.text.width))

    def tag_logits(self, pictures: Tensor) -> Tensor:
        """pictures (B, S, C) of `visual_encoder` -> (B, tags)."""
        labels = self.label_embed.weight.expand(len(pictures), -1, -1)
        head = self.vision_multi.encoder
        return self.fc(head(labels, None, head.recall(pictures)))

    def described(self, pictures: Tensor, words: Tensor, real: Tensor) -> Tensor:
        """What the sentence is written from: pictures (B, S, C), words and real (B, L) of the tags -> (B, L, D)."""
        return self.tag_encoder(words, real, self.tag_encoder.encoder.recall(pictures))

    def write(self, described: Tensor, prompt: Tensor) -> list[list[int]]:
        """Sentences with their prompt, which is (B, P). Padding of the tags is looked at too, as VBench does."""
        memory = self.text_decoder.recall(described)

        def logits(texts: Tensor, rows: Tensor) -> Tensor:
            return self.text_decoder(texts, [(keys[rows], values[rows]) for keys, values in memory])

        return by_mean(logits, prompt, END, BEAMS, LEAST, MOST)


class Captioner:
    """What the network sees, in words. tags: in the order of the checkpoint. Raises GokuError where they do not fit it."""

    def __init__(self, network: Tag2Text, tags: list[str], wordpieces: Wordpieces) -> None:
        if len(tags) != network.fc.b.shape[1]:
            raise GokuError(f"the list has {len(tags)} tags, the network {network.fc.b.shape[1]}. See docs/weights.md")
        self.network, self.tags, self.wordpieces = network, tags, wordpieces

    @classmethod
    def load(
        cls, checkpoint: Path, tags: Path, vocabulary: Path, device: str = "cpu", size: Tag2TextSize = PUBLISHED
    ) -> Captioner:
        """Raises GokuError where a file is another one."""
        held = without(read_tensors(checkpoint, ("model",)), SPARE)
        network = adopt(Tag2Text(size), held, checkpoint, SOURCE).to(device)
        return cls(network, tags.read_text(encoding="utf-8").splitlines(), Wordpieces(vocabulary))

    def captions(self, pictures: Tensor, mixed_up: bool = False) -> tuple[list[str], list[list[str]]]:
        """pictures (B, S, C) of `visual_encoder` -> a sentence without its prompt, and the tags, for each.

        mixed_up  as VBench: sentence n tells what picture n // 3 shows. Its code repeats the pictures for three beams,
                  transformers 4.33.2 repeats them once more, and `med.py` then cuts the list to the number of texts
        """
        tags = [self.named(logits) for logits in self.network.tag_logits(pictures)]
        words, real = self.wordpieces.table([" | ".join(some) for some in tags], TAG_WORDS, fill=True)
        words[:, 0] = ASK
        described = self.network.described(pictures, words.to(pictures.device), real.to(pictures.device))
        if mixed_up:
            described = described[torch.arange(len(described), device=described.device) // BEAMS]
        start = [WRITE, *self.wordpieces.numbers(PROMPT, MOST)[1:-1]]
        prompt = torch.tensor([start] * len(pictures), device=pictures.device)
        texts = [self.wordpieces.text(text) for text in self.network.write(described, prompt)]
        return [text[len(PROMPT) :] for text in texts], tags

    def named(self, logits: Tensor) -> list[str]:
        """Tags (tags,) above the threshold, in their order."""
        above = (logits.sigmoid() > THRESHOLD).nonzero()[:, 0].tolist()
        return [self.tags[n] for n in above if n not in NEVER]
