"""How well a drafter predicts held-out answers: top-1 agreement and acceptance length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spinbench.models.distill.dataset import SelfPlayLine, make_batch
from spinbench.models.distill.student import Student

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Score:
    """Agreement of one drafter with the target on some answers."""

    tokens: int
    top1_agreement: float
    acceptance_length: float


def simulate_rounds(correct: BoolArray, num_speculative_tokens: int) -> tuple[int, int]:
    """(rounds, accepted tokens) of one answer when `correct[t]` says that position t would be accepted.

    A round at t accepts min(K, run of correct positions from t, what is left after the bonus), then t += accepted + 1.
    """
    rounds = accepted_total = position = 0
    while position < len(correct):
        accepted = 0
        limit = min(num_speculative_tokens, len(correct) - position - 1)
        while accepted < limit and correct[position + accepted]:
            accepted += 1
        rounds += 1
        accepted_total += accepted
        position += accepted + 1
    return rounds, accepted_total


def score(correct: Sequence[BoolArray], num_speculative_tokens: int = 4) -> Score:
    """The score over answers, tokens and rounds pooled."""
    tokens = sum(len(c) for c in correct)
    rounds = [simulate_rounds(c, num_speculative_tokens) for c in correct]
    total_rounds, accepted = sum(r for r, _ in rounds), sum(a for _, a in rounds)
    return Score(
        tokens,
        sum(int(c.sum()) for c in correct) / max(1, tokens),
        (accepted + total_rounds) / max(1, total_rounds),
    )


def correct_positions(
    student: Student,
    lines: Sequence[SelfPlayLine],
    numbers: Sequence[int],
    target_ids: NDArray[np.int32],
    rows: int = 24,
) -> dict[int, BoolArray]:
    """Per line number, where the drafter's teacher-forced first choice is the answer's token: [answer tokens]."""
    order = sorted(numbers, key=lambda i: len(lines[i].tokens))
    result: dict[int, BoolArray] = {}
    with torch.inference_mode():
        weight = student.head_weight()
        for start in range(0, len(order), rows):
            part = np.asarray(order[start : start + rows], dtype=np.int64)
            batch = make_batch(lines, part, 1, 0)
            hidden = student.hidden(torch.from_numpy(batch.tokens).to(weight.device))
            for row, _, number in batch.line_starts:
                line = lines[number]
                states = hidden[row, line.prompt_tokens - 1 : len(line.tokens) - 1]
                best = ((states @ weight.t()).float() + student.head_bias).argmax(-1).cpu().numpy()
                result[number] = target_ids[best] == line.tokens[line.prompt_tokens :]
    return result


def score_by_category(
    correct: Mapping[int, BoolArray], categories: Sequence[str], num_speculative_tokens: int = 4
) -> dict[str, Score]:
    """The score of all lines under "all", and of each category that occurs."""
    result = {"all": score(list(correct.values()), num_speculative_tokens)}
    for name in sorted({categories[i] for i in correct}):
        result[name] = score([c for i, c in correct.items() if categories[i] == name], num_speculative_tokens)
    return result


def score_rows(scores: Mapping[str, Score], num_speculative_tokens: int) -> list[str]:
    """A Markdown table of scores by category, a line each."""
    return [
        f"| category | answer tokens | top-1 agreement | acceptance length at K={num_speculative_tokens} |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {one.tokens} | {one.top1_agreement:.3f} | {one.acceptance_length:.2f} |"
            for name, one in scores.items()
        ),
    ]
