"""A linear layer with its weight laid out once against torch's own, for the row counts of decoding and verifying.

python -m benchmarks.packed_linear
"""

import time
from collections.abc import Callable

import pandas as pd
import torch
from torch import nn

from benchmarks.entry import run_main
from spinbench.runtime.forward.packed_linear import PackedLinear

SHAPES = ((1536, 576), (576, 1536), (49152, 576))
"""[out, in] of SmolLM2's feed-forward layers and head."""
ROWS = (1, 5, 8, 24, 40)


def median_us(run: Callable[[int], object], repeats: int = 40) -> float:
    """Median time of `run(i)` in microseconds, after a warm-up."""
    times = []
    for index in range(repeats + 5):
        begun = time.perf_counter()
        run(index)
        times.append(time.perf_counter() - begun)
    return 1e6 * sorted(times[5:])[repeats // 2]


def main() -> None:
    """Measure and print."""
    rows = []
    for out_features, in_features in SHAPES:
        # several layers in turn, so that weights come from memory as they do in a model
        count = max(2, 30_000_000 // (out_features * in_features))
        layers = [nn.Linear(in_features, out_features, bias=False, dtype=torch.bfloat16) for _ in range(count)]
        packed = [PackedLinear(layer) for layer in layers]
        for num_rows in ROWS:
            x = torch.randn(num_rows, in_features, dtype=torch.bfloat16)
            with torch.inference_mode():
                plain_us = median_us(lambda i, x=x, layers=layers: layers[i % len(layers)](x))
                packed_us = median_us(lambda i, x=x, packed=packed: packed[i % len(packed)](x))
            rows.append((f"{out_features}x{in_features}", num_rows, plain_us, packed_us, plain_us / packed_us))
    table = pd.DataFrame(rows, columns=["weight", "rows", "torch (us)", "packed (us)", "torch / packed"])
    print(f"bfloat16, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(table.to_markdown(index=False, floatfmt=".2f"))


if __name__ == "__main__":
    run_main(main)
