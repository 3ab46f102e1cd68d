"""Sizes of a decoder-only transformer, all that a roofline needs; those of the paper's models by name."""

from dataclasses import dataclass

from spinbench.errors import UserError

SHAPE_SUFFIX = "-shape"
"""Ends the name of a model that is known by its sizes alone."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Multiply-adds and cache sizes per token."""

    name: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    layer_macs: int
    """Multiply-adds of the linear layers of all blocks for one token; as many weights."""
    head_macs: int
    """The same for the logits of one row."""
    num_parameters: int
    """Embedding included."""
    vocab_size: int
    """Logits in a row; a drafter's may be fewer than its embedding has."""
    source: str
    """Where the sizes are from, or that they are assumed."""

    @property
    def macs_per_token(self) -> int:
        """All linear layers, head included."""
        return self.layer_macs + self.head_macs

    @property
    def intermediate_size(self) -> int:
        """Width of a Llama's gated MLP: what attention leaves of a layer's multiply-adds."""
        attention = 2 * self.hidden_size * (self.num_heads + self.num_kv_heads) * self.head_dim
        return (self.layer_macs // self.num_layers - attention) // (3 * self.hidden_size)

    def kv_bytes_per_token(self, bytes_per_value: int) -> int:
        """Keys and values of all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * bytes_per_value


def llama_shape(
    name: str,
    num_layers: int,
    hidden_size: int,
    intermediate_size: int,
    num_heads: int,
    num_kv_heads: int,
    source: str,
    vocab_size: int = 32_000,
) -> ModelShape:
    """A Llama: gated MLP, no biases, embedding and head apart."""
    head_dim = hidden_size // num_heads
    attention = 2 * hidden_size * hidden_size + 2 * hidden_size * num_kv_heads * head_dim
    layer_macs = num_layers * (attention + 3 * hidden_size * intermediate_size)
    return ModelShape(
        name=name + SHAPE_SUFFIX,
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        layer_macs=layer_macs,
        head_macs=hidden_size * vocab_size,
        num_parameters=layer_macs + 2 * hidden_size * vocab_size,
        vocab_size=vocab_size,
        source=source,
    )


LLAMA_PAPER = "Touvron et al. 2023, arXiv 2302.13971, table 2; MLP width from the published config"
NAMED = (
    llama_shape("llama-7b", 32, 4096, 11_008, 32, 32, LLAMA_PAPER),
    llama_shape("llama-13b", 40, 5120, 13_824, 40, 40, LLAMA_PAPER),
    llama_shape("llama-30b", 60, 6656, 17_920, 52, 52, LLAMA_PAPER),
    llama_shape("llama-68m", 2, 768, 3072, 12, 12, "config of JackFram/llama-68m on the Hugging Face hub"),
    llama_shape(
        "llama-265m", 2, 2048, 8192, 16, 16, "assumed: two layers as JuncaiL/llama-265m states, widths that give 265M"
    ),
    llama_shape("llama-616m", 10, 2048, 5120, 16, 16, "assumed: no public config; sizes that give 613M"),
    llama_shape("llama-1.1b", 22, 2048, 5632, 32, 4, "config of TinyLlama-1.1B (arXiv 2401.02385)"),
    llama_shape("llama-1.4b", 24, 2048, 5632, 16, 16, "assumed: no public config; sizes that give 1.36B"),
)
"""Targets and drafters of SPIN (arXiv 2503.15921), which gives the drafters' parameter counts and nothing else."""

SHAPES = {shape.name: shape for shape in NAMED}


INFLATED_SIGN = "@"
"""Between a trained model and the shape that it is to be run in: smollm2-135m-instruct@llama-7b-shape."""


def inflated_parts(name: str) -> tuple[str, ModelShape] | None:
    """The trained model and the shape in the name of an inflated model; None for another name.

    Raises UserError for a shape that does not exist.
    """
    base, sign, shape_name = name.rpartition(INFLATED_SIGN)
    if not sign or not shape_name.endswith(SHAPE_SUFFIX):
        return None
    shape = find_shape(shape_name)
    return None if shape is None or not base else (base, shape)


def find_shape(name: str) -> ModelShape | None:
    """The shape of this name, or None for a name that is no shape's. Raises UserError for one that looks like one."""
    if name in SHAPES or not name.endswith(SHAPE_SUFFIX) or "/" in name or INFLATED_SIGN in name:
        return SHAPES.get(name)
    raise UserError(f"there is no shape {name!r}; shapes are {', '.join(SHAPES)}")
