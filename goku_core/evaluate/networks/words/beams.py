"""Beam search, in the two ways in which the networks here were published. Which words come out depends on the way.

Both ask `logits(words (n * beams, L), rows (n,))` for the word after the last, where `rows` says whose texts these are:
those of finished texts are no longer asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Logits = Callable[[Tensor, Tensor], Tensor]


class _Best:
    """The best finished texts of one row, at most `many`."""

    def __init__(self, many: int) -> None:
        self.many, self.texts, self.worst = many, [], 1e9

    def add(self, words: list[int], score: float) -> None:
        if len(self.texts) == self.many and score <= self.worst:
            return
        self.texts.append((score, words))
        if len(self.texts) > self.many:
            order = sorted(range(len(self.texts)), key=lambda n: (self.texts[n][0], n))
            self.worst = self.texts[order[1]][0]
            del self.texts[order[0]]
        else:
            self.worst = min(score, self.worst)

    def beats(self, score: float) -> bool:
        return len(self.texts) == self.many and self.worst >= score

    def first(self) -> list[int]:
        return sorted(self.texts, key=lambda text: text[0])[-1][1]


def by_mean(logits: Logits, prompt: Tensor, end: int, beams: int, least: int, most: int) -> list[list[int]]:
    """The texts with the highest mean log-probability: `generate` of transformers 4.33.2, which VBench demands.

    prompt  (R, P): the words each text begins with
    least, most  words of a text with its prompt: the end is not written below `least`
    Returns R texts with their prompts, without the end.

    Peculiar to that version, and kept: the mean is over all words with the prompt, though only new ones have
    probabilities; the end counts no word; a row is finished when its worst kept text is at least as good as the best
    candidate would be if it ended now.
    """
    rows, alive = torch.arange(len(prompt)), prompt[:, None].expand(-1, beams, -1)
    sums = torch.full((len(prompt), beams), -1e9, device=prompt.device)
    sums[:, 0] = 0.0
    best = [_Best(beams) for _ in prompt]
    while alive.shape[2] < most and len(rows):
        length = alive.shape[2]
        step = logits(alive.flatten(0, 1), rows).float().log_softmax(-1)
        if length < least:
            step[:, end] = -torch.inf
        total = step.unflatten(0, (-1, beams)) + sums[..., None]
        scores, places = total.flatten(1).topk(2 * beams)
        picked = []
        for n, row in enumerate(rows.tolist()):
            kept: list[tuple[int, int, int]] = []
            for rank, place in enumerate(places[n].tolist()):
                origin, word = divmod(place, step.shape[1])
                if word != end:
                    kept.append((origin, word, rank))
                elif rank < beams:
                    best[row].add(alive[n, origin].tolist(), scores[n, rank].item() / length)
                if len(kept) == beams:
                    break
            if best[row].beats(scores[n, 0].item() / (length + 1)):
                kept = []
            picked.append(kept)
        going = [n for n, kept in enumerate(picked) if kept]
        alive = torch.stack(
            [torch.stack([_and(alive[n, origin], word) for origin, word, _ in picked[n]]) for n in going]
        ) if going else alive[:0]  # fmt: skip
        sums = torch.stack([scores[n, [rank for *_, rank in picked[n]]] for n in going]) if going else sums[:0]
        rows = rows[going]
    for n, row in enumerate(rows.tolist()):
        for beam in range(beams):
            best[row].add(alive[n, beam].tolist(), sums[n, beam].item() / alive.shape[2])
    return [one.first() for one in best]


def by_length_penalty(
    logits: Logits, many: int, start: int, end: int, beams: int, least: int, most: int, device: str, alpha: float = 0.6
) -> list[list[int]]:
    """The texts with the highest sum of log-probabilities over ((5 + words) / 6)^alpha: mPLUG's `TextGenerator`.

    least  new words before the end may be written; most: new words in all
    Returns `many` texts from `start` on, the end with them.

    Peculiar to it, and kept: a text is over when the best of its beams ends; a beam that has ended without being the
    best is remembered and still goes on, so that an answer may hold words after an end.
    """
    rows = torch.arange(many)
    alive = torch.full((many, beams, 1), start, device=device)
    sums = torch.tensor([0.0] + [-torch.inf] * (beams - 1), device=device).repeat(many, 1)
    found: list[list[tuple[float, list[int]]]] = [[] for _ in range(many)]
    for step in range(most):
        next_words = logits(alive.flatten(0, 1), rows).float().log_softmax(-1)
        if step < least:
            next_words[:, end] = -1e20
        penalty = ((5.0 + step + 1) / 6.0) ** alpha
        total = (next_words.unflatten(0, (-1, beams)) + sums[..., None]) / penalty
        scores, places = total.flatten(1).topk(beams)
        origin, word = places // next_words.shape[1], places % next_words.shape[1]
        sums = scores * penalty
        alive = torch.cat([alive.take_along_dim(origin[..., None], 1), word[..., None]], dim=2)
        ended = (word == end) if step + 1 < most else torch.ones_like(word, dtype=torch.bool)
        over = ended[:, 0].tolist()
        for n, row in enumerate(rows.tolist()):
            for beam in range(beams):
                if over[n] or ended[n, beam]:
                    found[row].append((scores[n, beam].item(), alive[n, beam].tolist()))
        going = [n for n, done in enumerate(over) if not done]
        rows, alive, sums = rows[going], alive[going], sums[going]
        if not going:
            break
    return [max(texts, key=lambda text: text[0])[1] for texts in found]


def _and(words: Tensor, word: int) -> Tensor:
    return torch.cat([words, words.new_tensor([word])])
