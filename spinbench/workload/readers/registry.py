"""The known trace formats, by the name that a config gives."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from spinbench.workload.readers.azure import read_azure
from spinbench.workload.readers.burstgpt import read_burstgpt
from spinbench.workload.readers.mooncake import read_mooncake
from spinbench.workload.readers.protocol import TraceReader
from spinbench.workload.readers.sharegpt import read_sharegpt
from spinbench.workload.readers.spec_bench import read_spec_bench
from spinbench.workload.readers.spinbench import read_spinbench
from spinbench.workload.readers.synthetic import read_synthetic
from spinbench.workload.readers.vidur import read_vidur
from spinbench.workload.readers.vllm_timed_trace import read_vllm_timed_trace

TraceFormat = Literal[
    "spinbench",
    "spec_bench",
    "sharegpt",
    "azure_2023",
    "azure_2024",
    "burstgpt",
    "vidur",
    "mooncake",
    "vllm_timed_trace",
    "synthetic",
]

READERS: Mapping[TraceFormat, TraceReader] = MappingProxyType(
    {
        "spinbench": read_spinbench,
        "spec_bench": read_spec_bench,
        "sharegpt": read_sharegpt,
        "azure_2023": read_azure,
        "azure_2024": read_azure,
        "burstgpt": read_burstgpt,
        "vidur": read_vidur,
        "mooncake": read_mooncake,
        "vllm_timed_trace": read_vllm_timed_trace,
        "synthetic": read_synthetic,
    }
)
