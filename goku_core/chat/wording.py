"""How a model answers that did not do what it was asked: it refuses, or it talks to its reader. Rules on the text alone."""

from __future__ import annotations

import re

REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model|assistant)\b"
    r"|\bi(?:'m| am)(?: very)? sorry\b|\bi apologi[sz]e\b|\bmy apologies\b"
    r"|\bi(?: am|'m) (?:unable|not able) to\b|\bi (?:cannot|can't|can not|could not|won't|will not) "
    r"(?:see|view|describe|provide|assist|help|identify|access|process|determine|generate|fulfil|comply)"
    r"|\bcannot (?:assist|help) with\b|\bno (?:image|images|video|frames?|caption) (?:was|were|is|are|has been) "
    r"(?:provided|given|attached|supplied)\b|\bplease (?:provide|upload|share|attach)\b"
    r"|抱歉|对不起|无法(?:提供|查看|描述|识别)|作为一个?(?:人工智能|AI)",
    re.IGNORECASE,
)
PREAMBLE = re.compile(
    r"^(?:sure|certainly|of course|absolutely|okay|ok)\b[,.!]"
    r"|^(?:here(?:'s| is| are)|below is|the following is)\b.{0,60}\b(?:caption|description|summary)s?\b"
    r"|^(?:merged |final |combined )?(?:caption|description|answer|output)\s*:"
    r"|\b(?:let me know if|hope this helps|feel free to)\b",
    re.IGNORECASE,
)


def tidy(text: str) -> str:
    """One paragraph: white space made single, quotes and emphasis marks around the whole taken off."""
    text = " ".join(text.split())
    while len(text) > 1 and (text[0] + text[-1] in ('""', "''", "“”", "**", "``")):
        text = text[1:-1].strip()
    return text
