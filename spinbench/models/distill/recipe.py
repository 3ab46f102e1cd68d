"""What one drafter is and how it is trained."""

from dataclasses import dataclass, field
from typing import Any, Literal

Initialisation = Literal["principal_components", "target_layers", "trained_drafter"]


@dataclass(frozen=True)
class TrainingPhase:
    """A stretch of training on some categories (all of them when empty), measured in passes over those lines."""

    epochs: float
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrafterRecipe:
    """The shape of one drafter and its training; two equal recipes on equal data give equal weights.

    `initialisation` = "principal_components" starts the two projections at the main directions of the target's
    embedding. "target_layers" copies `target_layers` and the final norm, and needs the target's own width and heads;
    the norm is scaled down by `final_norm_scale`, because the copied layers are not yet sure of anything.
    "trained_drafter" cuts `source_drafter`, made before, down to a narrower feed-forward and another draft vocabulary.
    """

    name: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    draft_vocab_size: int
    draft_vocab_categories: tuple[str, ...] = ()
    phases: tuple[TrainingPhase, ...] = (TrainingPhase(3.0),)
    initialisation: Initialisation = "principal_components"
    target_layers: tuple[int, ...] = ()
    source_drafter: str = ""
    final_norm_scale: float = 0.25
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 2e-3
    projection_learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 40
    tokens_per_batch: int = 4096
    hard_label_share: float = 0.4
    lines_per_long_row: int = 3
    long_row_share: float = 0.25
    seed: int = 0
    rms_norm_eps: float = 1e-5
    rope_theta: float = 1e5
    max_position_embeddings: int = 8192
    notes: str = field(default="", compare=False)

    def projected(self, target_width: int) -> bool:
        """True when the drafter is narrower than the target and reads its embedding through a learned projection."""
        return self.hidden_size != target_width

    def layer_multiply_adds(self) -> int:
        """Multiply-adds a token spends in the layers' linear maps (attention over the context not counted)."""
        attention = self.hidden_size * self.head_dim * 2 * (self.num_attention_heads + self.num_key_value_heads)
        return self.num_hidden_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    def multiply_adds(self) -> int:
        """Multiply-adds a token costs in all: layers and the head over the draft vocabulary."""
        return self.layer_multiply_adds() + self.hidden_size * self.draft_vocab_size

    def llama_config(self, vocab_size: int) -> dict[str, Any]:
        """The keyword arguments of `transformers.LlamaConfig` that build this drafter's body."""
        return {
            "vocab_size": vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
            "max_position_embeddings": self.max_position_embeddings,
        }
