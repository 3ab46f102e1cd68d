import pytest

from spinbench.models.distill.category import categorise_text


@pytest.mark.parametrize(
    ("prompt", "answer", "category"),
    [
        ("Sort a list", "Use this:\n```python\nsorted(x)\n```", "code"),
        ("What does this do?", "def area(r):\n    return r * 2", "code"),
        ("Fix ```x = 1```", "It is right.", "code"),
        ("Solve 2x + 3 = 7", "2x = 7 - 3 = 4, so x = 4/2 = 2.", "maths"),
        ("Calculate the mean", "To calculate it, add them up and divide.", "maths"),
        ("List the years", "1914 1918 1939 1945 1989", "maths"),
        ("I feel sad", "I'm sorry to hear that. Do you want to talk? Please tell me.", "chat"),
        ("Describe a river", "The river winds through green hills towards a distant sea.", "prose"),
        ("", "", "prose"),
    ],
)
def test_rules(prompt: str, answer: str, category: str) -> None:
    assert categorise_text(prompt, answer) == category
