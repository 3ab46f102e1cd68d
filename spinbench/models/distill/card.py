"""The model card of a distilled drafter."""

from collections.abc import Mapping
from dataclasses import dataclass

from spinbench.models.distill.recipe import DrafterRecipe, TrainingPhase
from spinbench.models.distill.score import Score, score_rows
from spinbench.models.distill.training_log import TrainingLog


@dataclass(frozen=True)
class CardFacts:
    """What a card tells beyond recipe, log and scores."""

    target: str
    target_multiply_adds: int
    training_lines: int
    held_out_lines: int
    training_answer_tokens: int
    packed_bytes: int
    num_speculative_tokens: int
    device: str


def describe_phase(phase: TrainingPhase) -> str:
    """One phase in words."""
    return f"{phase.epochs:g} passes over {'/'.join(phase.categories) + ' lines' if phase.categories else 'all lines'}"


def describe_start(recipe: DrafterRecipe) -> str:
    """Where the weights came from, in words."""
    if recipe.initialisation == "target_layers":
        return f"layers {list(recipe.target_layers)} and final norm of the target"
    if recipe.initialisation == "trained_drafter":
        return f"`{recipe.source_drafter}`, its feed-forward units pruned by their activation on the training lines"
    return "principal directions of the target's embedding for the projections, seeded normal weights for the layers"


def describe_curve(log: TrainingLog) -> str:
    """How much the last third of the training still brought, in words."""
    if len(log.points) < 3:
        return "The run was too short to tell how it climbs."
    before, last = log.points[-1 - len(log.points) // 3], log.points[-1]
    return (
        f"From step {before.step} to the end ({last.step}), while the learning rate fell to zero, held-out top-1 "
        f"agreement went from {before.top1_agreement:.3f} to {last.top1_agreement:.3f} and the training loss from "
        f"{before.loss:.2f} to {last.loss:.2f}."
    )


def describe_loss(recipe: DrafterRecipe, log: TrainingLog) -> str:
    """What the drafter learned from, in words."""
    if log.soft_label_share == 0:
        return "cross entropy to the token that the target took"
    return (
        f"cross entropy to a mix of the target's 16 likeliest tokens ({1 - recipe.hard_label_share:g}) and the token "
        f"that it took ({recipe.hard_label_share:g}) on {100 * log.soft_label_share:.0f} % of the answer tokens, to "
        "the latter alone on the rest"
    )


def model_card(recipe: DrafterRecipe, log: TrainingLog, scores: Mapping[str, Score], facts: CardFacts) -> str:
    """The card as Markdown: cost, data, training, held-out scores of the packed weights, and how the curve ends."""
    cost = recipe.multiply_adds()
    target_cost = facts.target_multiply_adds
    share = 100 * cost / target_cost
    lines = [
        f"# {recipe.name}",
        "",
        f"A drafter for speculative decoding of `{facts.target}`. It is no language model of its own: it proposes what "
        "that target would answer, and the target checks every token.",
        "",
        "## Cost",
        "",
        "| | |",
        "|---|---|",
        f"| multiply-adds a token | {cost / 1e6:.2f} M ({share:.1f} % of the target's {target_cost / 1e6:.1f} M) |",
        f"| shape | {recipe.num_hidden_layers} layers, width {recipe.hidden_size}, "
        f"feed-forward {recipe.intermediate_size}, {recipe.num_attention_heads} heads, "
        f"{recipe.num_key_value_heads} key/value heads |",
        f"| draft vocabulary | {recipe.draft_vocab_size} tokens, the commonest in "
        f"{'/'.join(recipe.draft_vocab_categories) or 'all'} answers |",
        f"| shipped weights | {facts.packed_bytes / 1e6:.2f} MB, int8 per output channel; "
        "embedding and head rows come from the target |",
        "",
        "## Training",
        "",
        f"- Data: {facts.training_lines} of the target's own greedy answers to prompts that it made up itself "
        f"({facts.training_answer_tokens} answer tokens); no data set, no benchmark prompt.",
        f"- Start: {describe_start(recipe)}.",
        f"- Plan: {', then '.join(describe_phase(phase) for phase in recipe.phases)}; {recipe.optimizer}, "
        f"learning rate {recipe.learning_rate:g} with warm-up and cosine to zero, seed {recipe.seed}.",
        f"- Done: {log.steps} steps, {log.tokens_seen / 1e6:.2f} M token positions "
        f"({log.answer_tokens_seen / 1e6:.2f} M with a loss), {log.seconds / 60:.0f} minutes on {facts.device}.",
        f"- Loss: {describe_loss(recipe, log)}.",
        "",
        f"## Scores on {facts.held_out_lines} held-out answers (packed weights, teacher-forced)",
        "",
        *score_rows(scores, facts.num_speculative_tokens),
        "",
        "Acceptance length counts the bonus token: 1.00 is plain decoding. These answers follow prompts that the "
        "target made up itself; on prompts written by people acceptance is lower: see reports/, or replay a trace of "
        "yours.",
        "",
        "## The curve's end (a part of the held-out answers, weights before packing)",
        "",
        f"| step | tokens seen (M) | loss | top-1 agreement | acceptance length at K={facts.num_speculative_tokens} |",
        "|---:|---:|---:|---:|---:|",
        *(
            f"| {p.step} | {p.tokens_seen / 1e6:.2f} | {p.loss:.3f} | {p.top1_agreement:.3f} "
            f"| {p.acceptance_length:.2f} |"
            for p in log.points[-6:]
        ),
        "",
        describe_curve(log),
        "",
    ]
    if recipe.notes:
        lines += [recipe.notes, ""]
    return "\n".join(lines)
