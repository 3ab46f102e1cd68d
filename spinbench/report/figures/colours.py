"""One colour per method and per drafter, the same in every figure of every report."""

from collections.abc import Iterable

PLAIN, PEER, SPIN = "#6e6e6e", "#1a1a1a", "#d62728"
SELECTORS = {"random": "#b8a9c9", "round robin": "#8c6bb1", "epsilon greedy": "#e8853d", "prompt lookup": "#2a9d57"}
DRAFTERS = ("#9ecae1", "#4a98c9", "#2166ac", "#17becf", "#b5a32b", "#a1d76a", "#c994c7", "#08306b")
"""Cheapest drafter first; a method that uses one fixed drafter has the drafter's colour."""
OTHERS = ("#8c564b", "#e377c2", "#bcbd22", "#7f3b08", "#dd6fa5", "#545b8c")
SPAN_KINDS = {
    "prefill": "#8da0cb", "catch_up": "#e5c494", "draft": "#66c2a5", "draft_ahead": "#b3e2cd", "verify": "#fc8d62",
    "generate": "#e78ac3", "host": "#b3b3b3", "out_of_memory": "#54278f",
}  # fmt: skip
INK, PAPER, GRID = "#24292f", "#fefefe", "#d0d4d8"
"""Of figures: text and thin lines, what they lie on, and the lines of their axes."""
ON_COLOUR = "#1b1b1b"
"""Text on a coloured bar, which no scheme changes."""
IN_THE_DARK = {
    INK: "#e6e8ea", PAPER: "#14171b", GRID: "#3a4048", PEER: "#f2f2f2", PLAIN: "#9a9a9a", "#2166ac": "#3a6fd8",
    "#08306b": "#7f8ff0", "#7f3b08": "#cc7a3d", "#8c564b": "#b9796c", "#545b8c": "#8f96d8", "#8c6bb1": "#a988cf",
}  # fmt: skip
"""What a page in a dark scheme shows in place of a colour that is legible on paper only."""
HATCHES = ("", "//", "..", "xx", "\\\\")
"""Tell apart settings of one method (another K, layout or engine), which share its colour."""


def plain_name(name: str) -> str:
    """A method's or drafter's name without `fixed` and with spaces only, so that both spellings get one colour."""
    return name.removeprefix("fixed ").replace("_", " ").replace("-", " ")


def colour_map(methods: Iterable[str], drafters: Iterable[str]) -> dict[str, str]:
    """Colours by name for methods and drafters (cheapest first); the same names always give the same colours."""
    by_plain: dict[str, str] = {"plain": PLAIN, "spin": SPIN, **SELECTORS}
    drafters, methods = list(drafters), list(methods)
    free = iter(DRAFTERS)
    for name in drafters:
        if plain_name(name) not in by_plain:
            by_plain[plain_name(name)] = next(free, OTHERS[-1])
    spare = iter(OTHERS)
    for name in sorted(methods):
        if plain_name(name) not in by_plain:
            by_plain[plain_name(name)] = PEER if name.startswith("hf") else next(spare, OTHERS[-1])
    return {name: by_plain[plain_name(name)] for name in [*drafters, *methods]}


def shade_by_setting(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A hatch per label from (method, label) pairs: none for a method's first setting, then one each."""
    seen: dict[str, list[str]] = {}
    for method, label in labels:
        known = seen.setdefault(method, [])
        if label not in known:
            known.append(label)
    return {label: HATCHES[i % len(HATCHES)] for known in seen.values() for i, label in enumerate(known)}
