"""The kind of text a self-play line holds, by cheap rules on its words."""

import re

CODE = re.compile(
    r"```|\bdef \w+\(|\bimport \w+|\bprint\(|\bfunction\b.*\(|\bclass \w+[:({]|</?\w+>|#include"
    r"|\bSELECT\b.*\bFROM\b|\breturn \w+|[{};]\n"
)
MATHS = re.compile(
    r"\d\s*[-+*/=^×÷]\s*\(?[\d$\\xy]|\\frac|\\\(|\\\[|\$\d|\bequation\b|\bcalculate\b|\bprobability\b|\bderivative\b",
    re.I,
)
PATTERNS_OF_CHAT = re.compile(r"\b(you|your|i'm|i am|hello|hi|thank|sorry|please|we|my)\b", re.I)


def categorise_text(prompt: str, answer: str) -> str:
    """One of "code", "maths", "chat", "prose".

    `prompt` is the user's turn alone: the system prompt would make everything look alike.
    """
    if CODE.search(answer) or "```" in prompt:
        return "code"
    text = f"{prompt}\n{answer}"
    digits = sum(c.isdigit() for c in answer) / max(1, len(answer))
    if len(MATHS.findall(text)) >= 2 or digits > 0.06:
        return "maths"
    words = max(1, len(answer.split()))
    return "chat" if len(PATTERNS_OF_CHAT.findall(answer)) / words > 0.04 else "prose"
