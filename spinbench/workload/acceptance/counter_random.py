"""Uniform numbers that depend on a seed, a request and a counter alone, so that no request's draw moves another's."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
NUMBERS_AT_ONCE = 16_384
"""So few that what is between stays in a core's cache: of millions, memory would take most of the time."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def request_keys(ids: Sequence[str]) -> Words:
    """A number per request, uint64 [requests], from its id alone."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def uniforms(seed: int, stream: str, keys: Words, counters: npt.NDArray) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), one for each pair of key and counter; other streams of a seed are independent.

    SplitMix64 (Steele, Lea and Flood 2014) applied to the key, then to the counter from there.
    """
    digest = hashlib.blake2b(f"{seed} {stream}".encode(), digest_size=8).digest()
    name = np.frombuffer(digest, "<u8").astype(np.uint64)
    if keys.shape != counters.shape or keys.ndim > 1:
        return _numbers(keys ^ name, counters)
    numbers = np.empty(len(keys))
    for start in range(0, len(keys), NUMBERS_AT_ONCE):
        part = slice(start, start + NUMBERS_AT_ONCE)
        numbers[part] = _numbers(keys[part] ^ name, counters[part])
    return numbers


def _numbers(words: Words, counters: npt.NDArray) -> npt.NDArray[np.float64]:
    words = _mixed(words) + counters.astype(np.uint64) * GOLDEN
    return (_mixed(words) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(words: Words) -> Words:
    """SplitMix64's finaliser, a bijection; products wrap."""
    words = words + GOLDEN
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words
