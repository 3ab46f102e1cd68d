"""How many keys a program of the attention kernel takes at a time, and how many warps it has.

Such that registers do not spill, as far as that can be: `benchmarks.gpu.compile_kernels` lists what each variant takes.
"""


def tile_keys(padded_dim: int, value_bytes: int) -> int:
    """A power of two; `padded_dim` is the head size rounded up to a power of two.

    Products of float32 are made by the ordinary units, whose factors lie in registers: they take fewer.
    """
    if value_bytes > 2:
        return 32 if padded_dim <= 64 else 16
    return 64 if padded_dim <= 128 else 32


def num_warps(padded_dim: int, value_bytes: int, tile_rows: int) -> int:
    """Eight for large tiles of long heads, whose results would not fit into the registers of four."""
    return 8 if tile_rows >= 64 and padded_dim * value_bytes >= 256 else 4
