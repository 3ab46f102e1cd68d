"""Probabilities in one byte, on a logarithmic scale."""

import numpy as np
import numpy.typing as npt

STEPS_PER_HALVING = 16
"""One step is a factor of 2^(1/16), so a decoded probability is within 2.2 % of what was encoded."""
Codes = npt.NDArray[np.uint8] | npt.NDArray[np.int64]
"""Encoded probabilities."""
LOWEST = 255
"""The code of everything below 2^(-254.5/16) = 1.6e-5, zero included."""


def encode_probability(probability: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Codes round(-16 log2 p), at most 255. Raises ValueError for what is no probability, NaN included."""
    values = np.asarray(probability, np.float64)
    # rounding of a softmax in low precision may give slightly more than 1
    if not ((values >= 0) & (values <= 1.01)).all():
        raise ValueError("a probability must be between 0 and 1")
    with np.errstate(divide="ignore"):
        codes = np.rint(-STEPS_PER_HALVING * np.log2(values))
    return np.clip(codes, 0, LOWEST).astype(np.uint8)


def decode_probability(code: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """2^(-code/16): the probability within 2.2 %; code 255 stands for anything lower, too."""
    return np.exp2(-np.asarray(code, np.float64) / STEPS_PER_HALVING)
