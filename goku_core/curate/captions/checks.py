"""What is wrong with a caption that a model wrote, or nothing. Rules on the text alone: the same anywhere, no model.

Our choices, all of them: the paper does not say how captions were checked. The faults are those that captioning at
scale is known for: refusals, loops, answers cut off, talk to the user, the prompt said back, another language.
"""

from __future__ import annotations

import re

from goku_core.chat.wording import PREAMBLE, REFUSAL
from goku_core.curate.captions.request import Checks

NGRAM = 4  # words of a sequence whose coming back counts as repetition
LEAKED_WORDS = 9  # as many words in a row of the prompt are no chance
RUN = 4  # the same word so often in a row is a loop
LEAST_FUNCTION_SHARE = 0.08  # of English words; prose has 0.3 to 0.5, a list of tags none
FUNCTION_WORDS = {
    "en": "the a an and of in with is are to on at as by from it its this that his her their while for has into near",
    "de": "der die das und ein eine einer einem ist mit auf im von zu den dem des sich sind wird nicht über neben",
    "fr": "le la les un une et des du est dans avec sur il elle au aux qui sont ce cette devant",
    "es": "el los las un una y del es en con por que su al se sus está están este esta sobre",
    "it": "il lo gli un una e di che è con sul della nel si sono del dei alla questo questa",
    "pt": "o os as um uma e do da dos das é em com no na por que ao seu sua está",
}
_FUNCTION = {language: frozenset(words.split()) for language, words in FUNCTION_WORDS.items()}
_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_]+(?:['’-][^\W_]+)*")
_HAN = re.compile(r"[㐀-鿿]")
_LATIN = re.compile(r"[a-zA-ZÀ-ɏ]")


def words(text: str) -> list[str]:
    """Lower-case words; of scripts without spaces, each character."""
    return _WORD.findall(text.lower())


def problem(text: str, checks: Checks, instructions: str = "", finish: str = "stop") -> str | None:
    """The first reason against a tidy caption, in words, or None.

    instructions  what the prompt says apart from texts of the clip itself: saying it back is leakage
    finish        why the model ended, as servers name it; "length" is a caption without its end
    """
    found = words(text)
    if not found:
        return "empty"
    if match := REFUSAL.search(text):
        return f"refusal: “{match[0]}”"
    if match := PREAMBLE.search(text):
        return f"talks to its reader: “{match[0]}”"
    if finish == "length":
        return "cut off: the answer reached max_tokens"
    if (count := len(found)) < checks.min_words:
        return f"too short: {count} words, at least {checks.min_words}"
    if count > checks.max_words:
        return f"too long: {count} words, at most {checks.max_words}"
    if leaked := _leaked(found, words(instructions)):
        return f"says the prompt back: “{leaked}”"
    if reason := _repeats(found, checks.max_repetition):
        return reason
    return _language(text, found, checks.language)


def repetition(found: list[str]) -> float:
    """Share of sequences of 4 words that stood there before, 0 to 1; 0 for texts of 4 words or fewer."""
    sequences = [tuple(found[i : i + NGRAM]) for i in range(len(found) - NGRAM + 1)]
    return 1 - len(set(sequences)) / len(sequences) if sequences else 0.0


def _repeats(found: list[str], most: float) -> str | None:
    for start in range(len(found) - RUN + 1):
        if len(set(found[start : start + RUN])) == 1:
            return f"repeats itself: “{' '.join(found[start : start + RUN])}”"
    share = repetition(found)
    return f"repeats itself: {share:.0%} of its 4-word sequences, at most {most:.0%}" if share > most else None


def _leaked(found: list[str], prompt: list[str]) -> str | None:
    given = {tuple(prompt[i : i + LEAKED_WORDS]) for i in range(len(prompt) - LEAKED_WORDS + 1)}
    for start in range(len(found) - LEAKED_WORDS + 1):
        if tuple(found[start : start + LEAKED_WORDS]) in given:
            return " ".join(found[start : start + LEAKED_WORDS])
    return None


def _language(text: str, found: list[str], wanted: str) -> str | None:
    """By script, and among languages of the Latin script by function words. Short texts are judged by script alone."""
    if wanted == "any":
        return None
    letters = sum(character.isalpha() for character in text)
    own = len((_HAN if wanted == "zh" else _LATIN).findall(text))
    least = 0.5 if wanted == "zh" else 0.9  # Chinese captions hold foreign names, English ones few Chinese letters
    if own < least * max(letters, 1):
        return f"language: {own / max(letters, 1):.0%} of its letters are of the script of {wanted}"
    if wanted == "zh" or len(found) < 12:
        return None
    hits = {language: sum(word in known for word in found) for language, known in _FUNCTION.items()}
    best = max(hits, key=lambda language: (hits[language], language == wanted))
    if best != wanted:
        return f"language: reads like {best}, not {wanted}"
    if hits[wanted] < LEAST_FUNCTION_SHARE * len(found):
        return f"language: no sentences of {wanted}, rather a list of words"
    return None
