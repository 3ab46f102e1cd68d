"""What is kept, and what goes."""

from spinbench.recently_used import RecentlyUsed


def test_what_was_not_asked_for_longest_goes_first():
    made: list[str] = []
    kept: RecentlyUsed[str] = RecentlyUsed(2)

    def ask(key: str) -> str:
        return kept.get(key, lambda: made.append(key) or key.upper())

    assert [ask(key) for key in "abac"] == ["A", "B", "A", "C"]
    assert made == ["a", "b", "c"]
    # b went for c
    assert [ask(key) for key in "acb"] == ["A", "C", "B"]
    assert made == ["a", "b", "c", "b"]
    assert len(kept) == 2
