"""Both beam searches against searches over all texts of a tiny vocabulary, and their peculiarities by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from goku_core.evaluate.networks.words.beams import by_length_penalty, by_mean

END, WORDS = 0, 4


def random_table(seed: int) -> dict[tuple[int, ...], torch.Tensor]:
    """A log-probability of each next word after every text of up to five words."""
    generator = torch.Generator().manual_seed(seed)
    texts = (text for length in range(1, 6) for text in itertools.product(range(WORDS), repeat=length))
    return {text: torch.randn(WORDS, generator=generator).log_softmax(0) for text in texts}


def logits_of(tables):
    """tables: one per row. Logits are log-probabilities and a constant, which must not matter."""

    def logits(words, rows):
        beams = len(words) // len(rows)
        texts = [tuple(text) for text in words.tolist()]
        return torch.stack([tables[int(rows[n // beams])][text] + 3.0 for n, text in enumerate(texts)])

    return logits


def all_texts(table, prompt, least, most):
    """Every (text without its end, sum of log-probabilities, whether it ended) a search could end with."""
    open_texts = {prompt: 0.0}
    while open_texts:
        (text, total), *_ = open_texts.items()
        del open_texts[text]
        if len(text) == most:
            yield text, total, False
            continue
        for word in range(WORDS):
            if word != END:
                open_texts[(*text, word)] = total + float(table[text][word])
            elif len(text) >= least:
                yield text, total + float(table[text][END]), True


@pytest.mark.parametrize("least", [1, 3, 4])
def test_the_best_mean_of_all_texts(least: int) -> None:
    """With more beams than texts the search is exhaustive: the prompt counts in the length, the end does not."""
    tables = [random_table(seed) for seed in range(4)]
    prompt, most = (2, 1), 4
    found = by_mean(logits_of(tables), torch.tensor([prompt] * 4), END, 64, least, most)
    for table, text in zip(tables, found, strict=True):
        best = max(all_texts(table, prompt, least, most), key=lambda one: one[1] / len(one[0]))
        assert tuple(text) == best[0]


def chain(likely: dict[tuple[int, ...], list[float]]):
    """A table by hand; texts it does not name continue evenly."""

    class Table(dict):
        def __missing__(self, text):
            return torch.full((WORDS,), -math.log(WORDS))

    return Table({text: torch.tensor(shares).log() for text, shares in likely.items()})


@pytest.mark.parametrize("beams", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_few_beams_as_written_down_a_second_time(seed: int, beams: int) -> None:
    """Ends count among the best candidates only; the rule of when a row is over; rows of their own lengths."""
    tables, prompt, least, most = [random_table(7 * seed + n) for n in range(3)], (2,), 2, 5
    found = by_mean(logits_of(tables), torch.tensor([prompt] * 3), END, beams, least, most)
    for table, text in zip(tables, found, strict=True):
        going, kept = [(prompt, 0.0)], []
        for length in range(1, most):
            step = [
                ((*words, word), total + float(table[words][word]))
                for words, total in going
                for word in range(WORDS)
                if word != END or length >= least
            ]
            step = sorted(step, key=lambda one: -one[1])[: 2 * beams]
            going = [(words, total) for words, total in step if words[-1] != END][:beams]
            limit = next(n for n, one in enumerate(step) if one == going[-1]) if len(going) == beams else len(step)
            kept += [(t / length, w[:-1]) for n, (w, t) in enumerate(step) if w[-1] == END and n < min(beams, limit)]
            kept = sorted(kept)[-beams:]
            if len(kept) == beams and kept[0][0] >= step[0][1] / (length + 1):
                break
        else:
            kept += [(total / most, words) for words, total in going]
        assert tuple(text) == max(kept)[1]


def test_a_row_that_is_over_is_not_asked_again() -> None:
    quick = chain({(1,): [1.0, 0.0, 0.0, 0.0]})
    asked = []

    def logits(words, rows):
        asked.append(rows.tolist())
        return logits_of([quick, chain({})])(words, rows)

    assert by_mean(logits, torch.tensor([[1], [1]]), END, 1, 1, 6)[0] == [1]
    assert asked[0] == [0, 1] and asked[1] == [1]


def test_mplug_goes_on_after_an_end_that_is_not_the_best() -> None:
    """Words as in the official search: [9] stands for the start, which is no word here."""
    start = 3
    table = chain(
        {
            (3,): [0.45, 0.55, 0.0, 0.0],
            (3, 1): [0.3, 0.35, 0.35, 0.0],
            (3, 0): [0.0, 0.0, 1.0, 0.0],
            (3, 0, 2): [1.0, 0.0, 0.0, 0.0],
        }
    )
    (found,) = by_length_penalty(logits_of([table]), 1, start, END, beams=2, least=0, most=4, device="cpu")
    # [3, 0] ended second to [3, 1], was kept with log .45 / 1, and went on to [3, 0, 2, 0] with log .45 / (8/6)^.6: better.
    assert found == [3, 0, 2, 0]


@pytest.mark.parametrize("seed", range(6))
def test_mplug_as_written_down_a_second_time(seed: int) -> None:
    """The same rule over plain dictionaries: penalties, least and most, stop at the first best beam that ends."""
    tables = [random_table(10 * seed + n) for n in range(3)]
    found = by_length_penalty(logits_of(tables), 3, 1, END, beams=3, least=1, most=4, device="cpu")
    for table, text in zip(tables, found, strict=True):
        beams, kept = [((1,), 0.0)], []
        for step in range(4):
            penalty = ((5 + step + 1) / 6) ** 0.6
            candidates = [
                ((*words, word), total + (-1e20 if word == END and step < 1 else float(table[words][word])))
                for words, total in beams
                for word in range(WORDS)
            ]
            beams = sorted(candidates, key=lambda one: -one[1])[:3]
            last = step == 3
            over = last or beams[0][0][-1] == END
            kept += [(total / penalty, words) for words, total in beams if over or words[-1] == END]
            if over:
                break
        assert tuple(text) == max(kept)[1]
