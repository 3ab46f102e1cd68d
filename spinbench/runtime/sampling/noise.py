"""Gumbel noise that depends on request, position and token alone: the coupling behind drafter-invariant sampling."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from spinbench.control.arrays import IntArray
from spinbench.runtime.upload import upload

Int32Array = npt.NDArray[np.int32]
Uint32Array = npt.NDArray[np.uint32]
FEW_ROWS = 16
"""Below these, key by key is faster."""
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


def noise_keys(seeds: IntArray, positions: IntArray) -> Int32Array:
    """Two 32-bit keys per (request seed, position), int32 [rows, 2]: `numpy.random.SeedSequence([seed, position])`.

    Of many rows at once in arrays of 32-bit words, as that class documents its algorithm (after M. E. O'Neill's
    randutils); it itself takes several microseconds a row.
    """
    if len(seeds) < FEW_ROWS:
        words = [
            np.random.SeedSequence([seed & ((1 << 64) - 1), position]).generate_state(2)
            for seed, position in zip(seeds.tolist(), positions.tolist(), strict=True)
        ]
        return np.stack(words).astype(np.uint32).view(np.int32) if words else np.empty((0, 2), np.int32)
    # a seed takes two words if it needs them
    low, high = seeds.astype(np.uint64).astype(np.uint32), (seeds.astype(np.uint64) >> np.uint64(32)).astype(np.uint32)
    position = positions.astype(np.uint32)
    is_long = high > 0
    nothing = np.zeros_like(low)
    entropy = [low, np.where(is_long, high, position), np.where(is_long, position, nothing), nothing]
    constants = _constants(0x43B0D7E5, 0x931E8875)
    pool = [_hashed(word, constants) for word in entropy]
    for source in range(len(pool)):
        for place in range(len(pool)):
            if place != source:
                mixed = np.uint32(0xCA01F9DD) * pool[place] - np.uint32(0x4973F715) * _hashed(pool[source], constants)
                pool[place] = mixed ^ (mixed >> np.uint32(16))
    constants = _constants(0x8B51F9DD, 0x58F38DED)
    return np.stack([_hashed(word, constants) for word in pool[:2]], 1).view(np.int32)


def _constants(first: int, factor: int) -> Iterator[tuple[np.uint32, np.uint32]]:
    """Pairs of neighbours in the sequence first * factor^n, modulo 2^32."""
    while True:
        following = first * factor & _MASK
        yield np.uint32(first), np.uint32(following)
        first = following


def _hashed(word: Uint32Array, constants: Iterator[tuple[np.uint32, np.uint32]]) -> Uint32Array:
    add, factor = next(constants)
    word = (word ^ add) * factor
    return word ^ (word >> np.uint32(16))


def gumbel_noise(seeds: IntArray, positions: IntArray, token_ids: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, float32 [rows, tokens], for each (seed, position) and each target token id.

    Counter-based: a value is a hash of (seed, position, token id), so target and drafter, plain and speculative
    decoding, every batch and every device see the same noise for the same token (arXiv 2408.07978). 23 random bits a
    value: probabilities are right to about 1e-7.
    """
    return noise_of_keys(upload(noise_keys(seeds, positions), token_ids.device), token_ids)


def noise_of_keys(keys: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
    """The same for keys that are on the device, int32 [rows, 2]: nothing here depends on the host."""
    ids = token_ids.to(torch.int32) * _int32(0x9E3779B1)
    bits = _mix(_mix(ids[None] ^ keys[:, :1]) + keys[:, 1:])
    uniform = (((bits >> 9) & 0x7FFFFF).to(torch.float32) + 0.5) * 2.0**-23
    return -torch.log(-torch.log(uniform))
