"""The drafters that `spinbench distill` trains: the five shipped ones, and the same ladder for any other target."""

from collections.abc import Sequence
from dataclasses import replace

from spinbench.errors import UserError
from spinbench.models.distill.config import DistillConfig
from spinbench.models.distill.recipe import DrafterRecipe, TrainingPhase
from spinbench.models.fetch import DEFAULT_MODEL
from spinbench.models.loaded_model import TargetModel, input_embedding

EVERYTHING = (TrainingPhase(2.5),)


def recipes_for(target: TargetModel) -> tuple[DrafterRecipe, ...]:
    """Five recipes of clearly different cost, the strongest first."""
    return SMOLLM2 if target.name == DEFAULT_MODEL else ladder(target)


def chosen_recipes(
    config: DistillConfig, available: Sequence[DrafterRecipe], counted: str = ""
) -> tuple[DrafterRecipe, ...]:
    """The recipes that the config names, in its order, with its seed and share of passes applied.

    `counted` is the target's n-gram table, which may be named as well and has no recipe.
    """
    by_name = {recipe.name: recipe for recipe in available}
    names = list(by_name) if config.drafters == ("all",) else [name for name in config.drafters if name != counted]
    for name in names:
        if name not in by_name:
            raise UserError(
                f"distill.drafters: no recipe {name!r} for this target; choose among all, "
                f"{', '.join([*by_name, *filter(None, [counted])])}"
            )
    return tuple(
        replace(
            by_name[name],
            seed=by_name[name].seed + config.seed,
            phases=tuple(replace(phase, epochs=phase.epochs * config.passes_scale) for phase in by_name[name].phases),
        )
        for name in names
    )


def ladder(target: TargetModel) -> tuple[DrafterRecipe, ...]:
    """Recipes scaled to the target's width.

    A Llama target's first two layers start the widest, and the next three are cut out of that one; for another
    architecture all start from the embedding alone.
    """
    vocab_size, width = input_embedding(target.model).shape
    shape = target.model.config
    prefix = target.name.rstrip("/").rsplit("/", 1)[-1]
    if shape.model_type != "llama" or shape.num_hidden_layers < 2:
        return _from_embedding(prefix, width, vocab_size, LADDER_STEPS)
    widest = DrafterRecipe(
        name=f"{prefix}-d{width}-general",
        hidden_size=width,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=2,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=shape.head_dim,
        draft_vocab_size=min(8192, vocab_size),
        phases=EVERYTHING,
        initialisation="target_layers",
        target_layers=(0, 1),
        learning_rate=1.5e-3,
        rms_norm_eps=shape.rms_norm_eps,
        rope_theta=shape.rope_parameters["rope_theta"],
    )
    cut = tuple(
        replace(
            slim,
            name=f"{prefix}-d{width}-{slim.name.removeprefix(PREFIX)}",
            hidden_size=width,
            intermediate_size=max(1, shape.intermediate_size * slim.intermediate_size // WIDEST.intermediate_size),
            num_attention_heads=shape.num_attention_heads,
            num_key_value_heads=shape.num_key_value_heads,
            head_dim=shape.head_dim,
            draft_vocab_size=min(slim.draft_vocab_size, vocab_size),
            source_drafter=widest.name,
            rms_norm_eps=widest.rms_norm_eps,
            rope_theta=widest.rope_theta,
        )
        for slim in SMOLLM2
        if slim.initialisation == "trained_drafter"
    )
    return (widest, *cut, *_from_embedding(prefix, width, vocab_size, LADDER_STEPS[-1:]))


def _from_embedding(
    prefix: str, width: int, vocab_size: int, steps: Sequence[tuple[float, int, str, tuple[TrainingPhase, ...]]]
) -> tuple[DrafterRecipe, ...]:
    """A recipe per step: (share of the target's width, draft vocabulary, kind, phases); equal widths only once."""
    recipes: dict[int, DrafterRecipe] = {}
    for share, draft_vocab_size, kind, phases in steps:
        heads = max(1, round(width * share / 32))
        if heads not in recipes:
            recipes[heads] = DrafterRecipe(
                name=f"{prefix}-d{32 * heads}-{kind}",
                hidden_size=32 * heads,
                intermediate_size=96 * heads,
                num_hidden_layers=3,
                num_attention_heads=heads,
                num_key_value_heads=heads,
                head_dim=32,
                draft_vocab_size=min(draft_vocab_size, vocab_size),
                phases=phases,
                learning_rate=2e-3,
            )
    return tuple(recipes.values())


LADDER_STEPS = (
    (2 / 3, 8192, "general", EVERYTHING),
    (4 / 9, 8192, "prose-chat", (TrainingPhase(2.5, ("prose", "chat")),)),
    (1 / 3, 8192, "code-maths", (TrainingPhase(1.0), TrainingPhase(5.0, ("code", "maths")))),
    (2 / 9, 4096, "small", EVERYTHING),
)
PREFIX = "smollm2-d576-"
WIDEST = DrafterRecipe(
    name="smollm2-d576-general",
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=2,
    num_attention_heads=9,
    num_key_value_heads=3,
    head_dim=64,
    draft_vocab_size=8192,
    phases=(TrainingPhase(2.6),),
    initialisation="target_layers",
    target_layers=(0, 1),
    learning_rate=1.5e-3,
    seed=5,
)
SLIM = replace(
    WIDEST,
    initialisation="trained_drafter",
    source_drafter=WIDEST.name,
    target_layers=(),
    learning_rate=1e-3,
    tokens_per_batch=2048,
)
SMOLLM2 = (
    WIDEST,
    replace(
        SLIM,
        name="smollm2-d576-slim-general",
        intermediate_size=512,
        draft_vocab_size=6144,
        phases=(TrainingPhase(0.85),),
        seed=4,
    ),
    replace(
        SLIM,
        name="smollm2-d576-slim-prose-chat",
        intermediate_size=320,
        draft_vocab_size=4096,
        draft_vocab_categories=("prose", "chat"),
        phases=(TrainingPhase(1.0, ("prose", "chat")),),
        seed=3,
    ),
    replace(
        SLIM,
        name="smollm2-d576-slim-code-maths",
        intermediate_size=256,
        draft_vocab_size=2048,
        draft_vocab_categories=("code", "maths"),
        phases=(TrainingPhase(2.5, ("code", "maths")),),
        seed=2,
    ),
    DrafterRecipe(
        name="smollm2-d128-general",
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        draft_vocab_size=4096,
        phases=(TrainingPhase(1.8),),
        learning_rate=3e-3,
        projection_learning_rate=2e-3,
        tokens_per_batch=2048,
        seed=1,
    ),
)
