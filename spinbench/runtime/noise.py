"""Gumbel noise that depends on request, position and token alone: the coupling behind drafter-invariant sampling."""

import numpy as np
import torch

from spinbench.control.arrays import IntArray

_MASK = 0xFFFFFFFF


def _int32(value: int) -> int:
    """The signed 32-bit integer with the bits of `value`."""
    value &= _MASK
    return value - (1 << 32) if value >= 1 << 31 else value


def _mix(x: torch.Tensor) -> torch.Tensor:
    """Wellons' lowbias32, a bijective 32-bit integer hash, on int32 [any]; shifts are logical, products wrap."""
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * _int32(0x7FEB352D)
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * _int32(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def _keys(seeds: IntArray, positions: IntArray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Two 32-bit keys per (request seed, position), int32 [rows, 1] each."""
    words = [
        np.random.SeedSequence([seed & ((1 << 64) - 1), position]).generate_state(2)
        for seed, position in zip(seeds.tolist(), positions.tolist(), strict=True)
    ]
    keys = torch.from_numpy(np.stack(words).astype(np.uint32).view(np.int32)).to(device)
    return keys[:, :1], keys[:, 1:]


def gumbel_noise(seeds: IntArray, positions: IntArray, token_ids: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, float32 [rows, tokens], for each (seed, position) and each target token id.

    Counter-based: a value is a hash of (seed, position, token id), so target and drafter, plain and speculative
    decoding, every batch and every device see the same noise for the same token (arXiv 2408.07978). 23 random bits a
    value: probabilities are right to about 1e-7.
    """
    first, second = _keys(seeds, positions, token_ids.device)
    ids = token_ids.to(torch.int32) * _int32(0x9E3779B1)
    bits = _mix(_mix(ids[None] ^ first) + second)
    uniform = (((bits >> 9) & 0x7FFFFF).to(torch.float32) + 0.5) * 2.0**-23
    return -torch.log(-torch.log(uniform))
