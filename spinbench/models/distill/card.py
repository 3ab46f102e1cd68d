"""The model card of a distilled drafter."""

from collections.abc import Mapping
from dataclasses import dataclass

from spinbench.models.distill.recipe import DrafterRecipe, TrainingPhase
from spinbench.models.distill.score import Score
from spinbench.models.distill.trainer import TrainingLog


@dataclass(frozen=True)
class CardFacts:
    """What a card tells beyond recipe, log and scores."""

    target: str
    target_multiply_adds: int
    training_lines: int
    held_out_lines: int
    training_answer_tokens: int
    packed_bytes: int
    threads: int


def describe_phase(phase: TrainingPhase) -> str:
    """One phase in words."""
    return f"{phase.epochs:g} passes over {'/'.join(phase.categories) + ' lines' if phase.categories else 'all lines'}"


def model_card(recipe: DrafterRecipe, log: TrainingLog, scores: Mapping[str, Score], facts: CardFacts) -> str:
    """The card as Markdown: cost, data, training, held-out scores of the packed weights, and how the curve ends."""
    cost = recipe.multiply_adds()
    share = 100 * cost / facts.target_multiply_adds
    start = (
        f"layers {list(recipe.target_layers)} and final norm of the target"
        if recipe.initialisation == "target_layers"
        else "principal directions of the target's embedding for the projections, seeded normal weights for the layers"
    )
    lines = [
        f"# {recipe.name}",
        "",
        f"A drafter for speculative decoding of `{facts.target}`. It is no language model of its own: it proposes what that target "
        "would answer, and the target checks every token.",
        "",
        "## Cost",
        "",
        "| | |",
        "|---|---|",
        f"| multiply-adds a token | {cost / 1e6:.2f} M ({share:.1f} % of the target's {facts.target_multiply_adds / 1e6:.1f} M) |",
        f"| shape | {recipe.num_hidden_layers} layers, width {recipe.hidden_size}, feed-forward {recipe.intermediate_size}, "
        f"{recipe.num_attention_heads} heads, {recipe.num_key_value_heads} key/value heads |",
        f"| draft vocabulary | {recipe.draft_vocab_size} tokens |",
        f"| shipped weights | {facts.packed_bytes / 1e6:.2f} MB, int8 per output channel; embedding and head rows come from the target |",
        "",
        "## Training",
        "",
        f"- Data: {facts.training_lines} of the target's own greedy answers to prompts that it made up itself "
        f"({facts.training_answer_tokens} answer tokens); no data set, no benchmark prompt.",
        f"- Start: {start}.",
        f"- Plan: {', then '.join(describe_phase(phase) for phase in recipe.phases)}; {recipe.optimizer}, learning rate "
        f"{recipe.learning_rate:g} with warm-up and cosine to zero, seed {recipe.seed}.",
        f"- Done: {log.steps} steps, {log.tokens_seen / 1e6:.2f} M token positions ({log.answer_tokens_seen / 1e6:.2f} M with a loss), "
        f"{log.seconds / 60:.0f} minutes on {facts.threads} CPU cores.",
        f"- Loss: cross entropy to the target's 16 likeliest tokens ({100 * log.soft_label_share:.0f} % of the answer tokens had them) "
        f"mixed with {recipe.hard_label_share:g} of the token that it took; the rest of the tokens had the latter alone.",
        "",
        f"## Scores on {facts.held_out_lines} held-out answers (packed weights, teacher-forced)",
        "",
        "| category | answer tokens | top-1 agreement | acceptance length at K=4 |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {s.tokens} | {s.top1_agreement:.3f} | {s.acceptance_length:.2f} |" for name, s in scores.items()),
        "",
        "Acceptance length counts the bonus token: 1.00 is plain decoding.",
        "",
        "## The curve's end (a part of the held-out answers, weights before packing)",
        "",
        "| step | tokens seen (M) | loss | top-1 agreement | acceptance length at K=4 |",
        "|---:|---:|---:|---:|---:|",
        *(
            f"| {p.step} | {p.tokens_seen / 1e6:.2f} | {p.loss:.3f} | {p.top1_agreement:.3f} | {p.acceptance_length:.2f} |"
            for p in log.points[-6:]
        ),
        "",
    ]
    if recipe.notes:
        lines += [recipe.notes, ""]
    return "\n".join(lines)
