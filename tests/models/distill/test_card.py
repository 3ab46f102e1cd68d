from dataclasses import replace

import pytest

from spinbench.models.distill.card import CardFacts, describe_curve, model_card
from spinbench.models.distill.presets import SMOLLM2
from spinbench.models.distill.recipe import DrafterRecipe, TrainingPhase
from spinbench.models.distill.score import Score
from spinbench.models.distill.training_log import TrainingLog, ValidationPoint

FACTS = CardFacts(
    target="big",
    target_multiply_adds=200_000,
    training_lines=90,
    held_out_lines=10,
    training_answer_tokens=9_000,
    packed_bytes=1_500_000,
    num_speculative_tokens=3,
    device="2 CPU threads",
)
POINTS = [
    ValidationPoint(step, step * 1_000_000, 5.0 - step / 2, step / 10, 1 + step / 10) for step in (1, 2, 3, 4, 5, 6)
]
LOG = TrainingLog(
    POINTS, steps=6, tokens_seen=6_000_000, answer_tokens_seen=4_000_000, seconds=120, soft_label_share=0.38
)


@pytest.mark.parametrize(
    "line",
    [
        # layers 2 x (16*8*2*(2+1) + 3*16*24) = 3840, head 16 * 200 = 3200: 7040 of 200000
        "| multiply-adds a token | 0.01 M (3.5 % of the target's 0.2 M) |",
        "| shipped weights | 1.50 MB, int8 per output channel; embedding and head rows come from the target |",
        "- Done: 6 steps, 6.00 M token positions (4.00 M with a loss), 2 minutes on 2 CPU threads.",
        "- Plan: 2 passes over all lines, then 1.5 passes over code/maths lines; adamw, learning rate 0.005 with warm-up "
        "and cosine to zero, seed 7.",
        "## Scores on 10 held-out answers (packed weights, teacher-forced)",
        "| category | answer tokens | top-1 agreement | acceptance length at K=3 |",
        "| all | 50 | 0.250 | 1.31 |",
        "| 6 | 6.00 | 2.000 | 0.600 | 1.60 |",
    ],
)
def test_lines(recipe: DrafterRecipe, line: str) -> None:
    recipe = replace(recipe, phases=(TrainingPhase(2.0), TrainingPhase(1.5, ("code", "maths"))))
    assert line in model_card(recipe, LOG, {"all": Score(50, 0.25, 1.312)}, FACTS).splitlines()


def test_it_says_that_self_play_flatters(recipe: DrafterRecipe) -> None:
    assert "on prompts written by people acceptance is lower" in model_card(recipe, LOG, {}, FACTS)


def test_the_curve_in_words() -> None:
    # the last third of six points: from the fourth (top-1 0.4, loss 3) to the sixth (0.6, 2)
    words = describe_curve(LOG)
    assert "From step 4 to the end (6)" in words
    assert "from 0.400 to 0.600" in words
    assert "from 3.00 to 2.00" in words
    assert "too short" in describe_curve(TrainingLog(POINTS[:2]))


@pytest.mark.parametrize(
    ("share", "words"), [(0.0, "to the token that the target took."), (0.38, "on 38 % of the answer")]
)
def test_what_it_learned_from(recipe: DrafterRecipe, share: float, words: str) -> None:
    card = model_card(recipe, replace(LOG, soft_label_share=share), {}, FACTS)
    assert words in card


def test_where_each_shipped_drafter_started() -> None:
    starts = {recipe.name: model_card(recipe, LOG, {}, FACTS) for recipe in SMOLLM2}
    assert "layers [0, 1] and final norm of the target" in starts["smollm2-d576-general"]
    assert "- Start: `smollm2-d576-general`" in starts["smollm2-d576-slim-general"]
    assert "principal directions" in starts["smollm2-d128-general"]
