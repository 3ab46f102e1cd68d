"""How many keys a program of the attention kernel takes at a time."""


def tile_keys(padded_dim: int, value_bytes: int, tile_rows: int) -> int:
    """A power of two: as many keys as keep keys, values and results in registers and shared memory without spills.

    `padded_dim` is the head size rounded up to a power of two. Checked by `benchmarks.gpu.compile_kernels`, which lists
    spills.
    """
    if tile_rows == 1:
        return 32 if padded_dim * value_bytes > 256 else 64
    return 32 if padded_dim * value_bytes > 256 else 64
