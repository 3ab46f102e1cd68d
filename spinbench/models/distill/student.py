"""The drafter while it is trained: a Llama body between projections of the target's frozen embedding."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinbench.models.distill.recipe import DrafterRecipe


class Linear(nn.Module):
    """A bias-free linear map with float32 weights that computes in its input's dtype."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.Module):
    """Llama's norm with a learned scale."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width], computed in x's dtype from a float32 variance."""
        variance = x.float().square().mean(-1, keepdim=True)
        return x * torch.rsqrt(variance + self._eps).to(x.dtype) * self.weight.to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped keys, weights named as in transformers."""

    def __init__(self, recipe: DrafterRecipe) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = (
            recipe.num_attention_heads,
            recipe.num_key_value_heads,
            recipe.head_dim,
        )
        self.q_proj = Linear(self.heads * self.head_dim, recipe.hidden_size)
        self.k_proj = Linear(self.kv_heads * self.head_dim, recipe.hidden_size)
        self.v_proj = Linear(self.kv_heads * self.head_dim, recipe.hidden_size)
        self.o_proj = Linear(recipe.hidden_size, self.heads * self.head_dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, keep: Tensor | None = None) -> Tensor:
        """[rows, columns, width] -> the same, or [kept, width] for the flat positions in `keep`."""
        rows, columns, _ = x.shape

        def split(y: Tensor, heads: int) -> Tensor:
            return y.view(rows, columns, heads, self.head_dim).transpose(1, 2)

        def rotate(y: Tensor) -> Tensor:
            low, high = y.chunk(2, dim=-1)
            return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)

        query = rotate(split(self.q_proj(x), self.heads))
        key = rotate(split(self.k_proj(x), self.kv_heads))
        value = split(self.v_proj(x), self.kv_heads)
        if self.kv_heads != self.heads:
            key = key.repeat_interleave(self.heads // self.kv_heads, dim=1)
            value = value.repeat_interleave(self.heads // self.kv_heads, dim=1)
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        out = out.transpose(1, 2).reshape(rows, columns, -1)
        return self.o_proj(out if keep is None else out.flatten(0, 1)[keep])


class MLP(nn.Module):
    """Llama's gated feed-forward block."""

    def __init__(self, recipe: DrafterRecipe) -> None:
        super().__init__()
        self.gate_proj = Linear(recipe.intermediate_size, recipe.hidden_size)
        self.up_proj = Linear(recipe.intermediate_size, recipe.hidden_size)
        self.down_proj = Linear(recipe.hidden_size, recipe.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, recipe: DrafterRecipe) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(recipe.hidden_size, recipe.rms_norm_eps)
        self.self_attn = Attention(recipe)
        self.post_attention_layernorm = RMSNorm(recipe.hidden_size, recipe.rms_norm_eps)
        self.mlp = MLP(recipe)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, keep: Tensor | None = None) -> Tensor:
        """[rows, columns, width] -> the same, or [kept, width] for the flat positions in `keep`."""
        update = self.self_attn(self.input_layernorm(x), cos, sin, keep)
        x = (x if keep is None else x.flatten(0, 1)[keep]) + update
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    """Layers and final norm, named so that the state dict is a transformers Llama's."""

    def __init__(self, recipe: DrafterRecipe) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(recipe) for _ in range(recipe.num_hidden_layers))
        self.norm = RMSNorm(recipe.hidden_size, recipe.rms_norm_eps)
        half = torch.arange(0, recipe.head_dim, 2, dtype=torch.float32)
        self.inverse_frequency: Tensor
        self.register_buffer("inverse_frequency", 1.0 / recipe.rope_theta ** (half / recipe.head_dim), persistent=False)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Embedded rows [rows, columns, width] -> normed hidden states, positions counted from each row's start.

        With `keep` (flat positions) the last layer computes those alone and the result is [kept, width].
        """
        positions = torch.arange(x.shape[1], dtype=torch.float32, device=x.device)
        angles = positions[:, None] * self.inverse_frequency
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            x = layer(x, cos, sin, keep if number == last else None)
        return self.norm(x)


class Student(nn.Module):
    """The trainable drafter; `embedding` (float32 [vocabulary, target width]) stays frozen, outside the state dict."""

    def __init__(self, recipe: DrafterRecipe, embedding: Tensor, target_ids: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.recipe, self.dtype = recipe, dtype
        self.vocab_size = embedding.shape[0]
        self.embedding: Tensor
        self.head_rows: Tensor
        self.register_buffer("embedding", embedding.detach().to(dtype), persistent=False)
        self.register_buffer("head_rows", embedding.detach()[target_ids.long()].to(dtype), persistent=False)
        self.projected = recipe.projected(embedding.shape[1])
        self.model = Body(recipe)
        self.head_bias = nn.Parameter(torch.zeros(len(target_ids)))
        if self.projected:
            self.embed_projection = nn.Parameter(torch.empty(recipe.hidden_size, embedding.shape[1]))
            self.head_projection = nn.Parameter(torch.empty(recipe.hidden_size, embedding.shape[1]))

    def hidden(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Target ids [rows, columns] -> normed states [rows, columns, width], or [kept, width] at flat positions."""
        x = F.embedding(tokens, self.embedding)
        if self.projected:
            x = F.linear(x, self.embed_projection.to(self.dtype))
        return self.model(x, keep)

    def head_weight(self) -> Tensor:
        """The merged head [draft vocabulary, width], once per step."""
        if not self.projected:
            return self.head_rows
        return F.linear(self.head_rows, self.head_projection.to(self.dtype))


def initialise(student: Student, embedding: Tensor, start: dict[str, Tensor] | None, seed: int) -> None:
    """Set the student's start: seeded normal weights, principal components for the projections, then `start`.

    `start` maps parameter names (`model.layers.0...`) to trained weights to begin with.
    """
    generator = torch.Generator().manual_seed(seed)
    recipe = student.recipe
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if parameter.ndim == 2:
                std = parameter.shape[1] ** -0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std /= (2 * recipe.num_hidden_layers) ** 0.5
                parameter.normal_(0.0, std, generator=generator)
        if student.projected:
            centred = embedding - embedding.mean(0)
            eigenvalues, directions = torch.linalg.eigh(centred.t() @ centred / len(embedding))
            main = directions[:, -recipe.hidden_size :].flip(1).t().contiguous()
            rms = eigenvalues[-recipe.hidden_size :].clamp_min(0).mean().sqrt()
            student.embed_projection.copy_(main / rms)  # embedded tokens start at unit scale
            student.head_projection.copy_(main)
            student.model.norm.weight.fill_(recipe.final_norm_scale)  # quiet first guesses
        if start is not None:
            own = dict(student.named_parameters())
            for name, weight in start.items():
                own[name].copy_(weight)
