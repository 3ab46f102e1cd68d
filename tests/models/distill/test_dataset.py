from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.errors import UserError
from spinbench.models.distill.dataset import (
    SelfPlayLine,
    draft_vocabulary,
    epoch_batches,
    make_batch,
    read_self_play,
    split_lines,
)
from spinbench.models.distill.recipe import DrafterRecipe


def line(prompt: list[int], answer: list[int]) -> SelfPlayLine:
    return SelfPlayLine(len(prompt), np.array(prompt + answer))


def test_read(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text("[2,[5,6,7]]\n[1,[5,6,7,2]]\n")
    lines = read_self_play(path)
    assert [(one.prompt_tokens, one.tokens.tolist(), one.answer_tokens) for one in lines] == [
        (2, [5, 6, 7], 1),
        (1, [5, 6, 7, 2], 3),
    ]


@pytest.mark.parametrize(
    "bad", ["", "{}", "[3,[1,2,3]]", "[0,[1,2]]", '[1,["a",2]]', "[1,[-1,2]]", "[1,[[1],[2]]]", "[1]", "3"]
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text(f"[2,[5,6,7]]\n{bad}\n")
    with pytest.raises(UserError, match=r"text\.jsonl:2: not a self-play line") as error:
        read_self_play(path)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such self-play file"):
        read_self_play(tmp_path / "none.jsonl")


def test_split_keeps_prompts_apart() -> None:
    lines = [line([i % 7, 9], [i]) for i in range(30)]
    split = split_lines(lines, 3, seed=1)
    held_out = {lines[i].tokens[0] for i in split.held_out}
    assert len(split.held_out) == 3
    assert held_out.isdisjoint({lines[i].tokens[0] for i in split.train})
    assert set(split.train) | set(split.held_out) <= set(range(30))
    assert np.array_equal(split_lines(lines, 3, seed=1).train, split.train)
    assert not np.array_equal(split_lines(lines, 3, seed=2).held_out, split.held_out)


@pytest.mark.parametrize("held_out", [0, 30, 31])
def test_split_needs_both_sides(held_out: int) -> None:
    with pytest.raises(UserError, match="held_out_lines"):
        split_lines([line([i], [i]) for i in range(30)], held_out, seed=0)


def test_draft_vocabulary() -> None:
    # counts in the answers of lines 0 and 1: 7 x3, 8 x2, 9 x1; the prompt's 50 and line 2 do not count
    lines = [line([50, 50], [7, 7, 8]), line([50], [7, 8, 9]), line([1], [60, 60, 60, 60, 60])]
    assert draft_vocabulary(lines, [0, 1], 3, eos_token_id=2).tolist() == [2, 7, 8]
    assert draft_vocabulary(lines, [0, 1], 6, eos_token_id=2).tolist() == [0, 1, 2, 7, 8, 9]


@given(st.lists(st.integers(2, 60), min_size=1, max_size=80), st.integers(0, 5))
def test_an_epoch_is_a_partition(lengths: list[int], seed: int) -> None:
    lines = [line([1], [3] * (n - 1)) for n in lengths]
    recipe = DrafterRecipe("r", 8, 8, 1, 1, 1, 8, 8, tokens_per_batch=128)
    batches = epoch_batches(lines, np.arange(len(lines)), recipe, np.random.default_rng(seed))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lines)))
    for batch in batches:
        assert len(batch) * max(len(lines[i].tokens) for i in batch) <= 128


def test_rows_of_a_batch() -> None:
    lines = [line([1, 2], [3]), line([4], [5]), line([6], [7, 8, 9])]
    one = make_batch(lines, np.array([2, 0, 1]), 1, pad_token_id=0)
    assert one.tokens.tolist() == [[6, 7, 8, 9], [1, 2, 3, 0], [4, 5, 0, 0]]
    assert one.line_starts == ((0, 0, 2), (1, 0, 0), (2, 0, 1))
    two = make_batch(lines, np.array([2, 0, 1]), 2, pad_token_id=0)
    assert two.tokens.tolist() == [[6, 7, 8, 9, 1, 2, 3], [4, 5, 0, 0, 0, 0, 0]]
    assert two.line_starts == ((0, 0, 2), (0, 4, 0), (1, 0, 1))
