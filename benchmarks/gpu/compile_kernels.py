"""Compile every kernel ahead of time, without a GPU: registers, spills and shared memory of each variant, as a CSV.

python -m benchmarks.gpu.compile_kernels [--out reports/gpu/kernels.csv] [--only KERNEL,DTYPE,HEAD_DIM]
"""

import argparse
import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.entry import run_main
from spinbench.runtime.kernels.attention_kernel import attend, merge, store_kv
from spinbench.runtime.kernels.tile_keys import num_warps, tile_keys

TARGETS = (80, 90)
DTYPES = {"fp16": 2, "bf16": 2, "fp32": 4}
HEAD_DIMS = {"bf16": (32, 64, 80, 96, 128, 256), "fp16": (64, 128), "fp32": (64, 80, 128, 256)}
"""bfloat16 is what is served in; the others are there for proofs and older GPUs."""
BLOCK_SIZE = 16


@dataclass(frozen=True, slots=True)
class Variant:
    """One kernel with all that is fixed when it is compiled."""

    kernel: str
    """store_kv, attend or merge"""
    dtype: str
    head_dim: int
    share: int = 1
    """Query heads that use one key head."""
    tile_rows: int = 0
    split: bool = False
    tree: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What `cuobjdump` says of a compiled kernel."""

    registers: int
    """Of a thread."""
    stack_bytes: int
    """Of a thread: where spilled registers go, and nothing else in these kernels."""
    shared_bytes: int
    """Of a block of threads; what is asked for at its launch included."""


def variants() -> Iterator[Variant]:
    """Draft (one row), verify (16 rows with sharing heads on), long verifies and prefills (64); cut or whole; trees."""
    for dtype, head_dims in HEAD_DIMS.items():
        yield Variant("store_kv", dtype, 128)
        yield Variant("merge", dtype, 128)
        for head_dim in head_dims:
            yield Variant("attend", dtype, head_dim, 1, 16)
            for share, tile_rows in ((1, 1), (1, 16), (4, 32), (4, 64)):
                yield Variant("attend", dtype, head_dim, share, tile_rows, True)
            yield Variant("attend", dtype, head_dim, 4, 64, True, True)


def compile_variant(variant: Variant, capability: int) -> Usage:
    """Compile for a compute capability (90 = sm_90) down to machine code."""
    source, options = _source(variant)
    options = {**options, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    registers, stack, shared = _resources(compiled.asm["cubin"])
    return Usage(registers, stack, max(shared, compiled.metadata.shared))


def _source(variant: Variant) -> tuple[ASTSource, dict[str, Any]]:
    value, table = f"*{variant.dtype}", "*i32"
    padded = max(16, triton.next_power_of_2(variant.head_dim))
    constants: dict[str, Any] = {"HEAD_DIM": variant.head_dim}
    if variant.kernel == "store_kv":
        kv_heads = 32
        kernel, pointers = store_kv, {**dict.fromkeys(("key", "value", "keys", "values"), value), "write_slots": table}
        constants |= {"KV_HEADS": kv_heads, "PADDED": triton.next_power_of_2(kv_heads * variant.head_dim)}
        options = {"num_warps": 4}
    elif variant.kernel == "merge":
        kernel = merge
        pointers = {"out": value, "partial": "*fp32", "partial_log": "*fp32", "merges": table}
        constants |= {"PADDED_DIM": padded, "WIDE": tl.float32}
        options = {"num_warps": 1}
    else:
        kernel = attend
        partial = "*fp32" if variant.split else value
        pointers = {
            **dict.fromkeys(("query", "keys", "values", "out"), value),
            **dict.fromkeys(("partial", "partial_log"), partial),
            **dict.fromkeys(("tiles", "limits", "blocks", "bits"), table),
            "scale": "fp32",
        }
        constants |= {
            "SHARE": variant.share,
            "PADDED_DIM": padded,
            "BLOCK_SIZE": BLOCK_SIZE,
            "TILE_ROWS": variant.tile_rows,
            "TILE_KEYS": tile_keys(padded, DTYPES[variant.dtype]),
            "WORDS": 1 if variant.tree else 0,
            "SPLIT": variant.split,
            "WIDE": tl.float32,
            "PRECISION": "ieee",
            "WIDEN": False,
        }
        options = {"num_warps": num_warps(padded, DTYPES[variant.dtype], variant.tile_rows), "num_stages": 2}
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in names}
    # as a launch finds it: addresses and strides are multiples of 16
    aligned = [
        i
        for i, (name, parameter) in enumerate(zip(names, kernel.params, strict=True))
        if signature[name].startswith("*") or (name.endswith("_stride") and not parameter.do_not_specialize)
    ]
    if variant.head_dim % 16 or variant.kernel == "merge":
        aligned = [i for i in aligned if signature[names[i]].startswith("*")]
    attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
    return ASTSource(kernel, signature, constants, attributes), options


def _resources(cubin: bytes) -> tuple[int, int, int]:
    """Registers, stack and static shared memory, by the tool that comes with Triton."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        text = subprocess.run([tool, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", text)
    if found is None:
        raise RuntimeError(f"cuobjdump says nothing of resources: {text}")
    registers, stack, shared, local = map(int, found.groups())
    return registers, stack + local, shared


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports/gpu/kernels.csv"))
    parser.add_argument("--only", help="kernel,dtype,head size: compile these alone, e.g. attend,bf16,64")
    options = parser.parse_args(arguments)
    if knobs.runtime.interpret:
        sys.exit("TRITON_INTERPRET is set: the interpreter compiles nothing; unset it")
    wanted = list(variants())
    if options.only:
        kernel, dtype, head_dim = options.only.split(",")
        wanted = [one for one in wanted if (one.kernel, one.dtype, one.head_dim) == (kernel, dtype, int(head_dim))]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    spilling = 0
    with options.out.open("w", newline="") as file:
        writer: csv.DictWriter | None = None
        for variant in wanted:
            for capability in TARGETS:
                usage = compile_variant(variant, capability)
                spilling += usage.stack_bytes > 0
                row = {"target": f"sm_{capability}", **asdict(variant), **asdict(usage)}
                if writer is None:
                    writer = csv.DictWriter(file, list(row), lineterminator="\n")
                    writer.writeheader()
                writer.writerow(row)
    print(f"{options.out}: {len(wanted)} variants for {len(TARGETS)} targets, {spilling} of them spill")


if __name__ == "__main__":
    run_main(main)
