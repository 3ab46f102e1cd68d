"""The known trace formats, by the name that a config gives."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from spinbench.workload.readers.azure_2023 import read_azure_2023
from spinbench.workload.readers.protocol import TraceReader
from spinbench.workload.readers.spec_bench import read_spec_bench
from spinbench.workload.readers.spinbench import read_spinbench

TraceFormat = Literal["spinbench", "spec_bench", "azure_2023"]

READERS: Mapping[TraceFormat, TraceReader] = MappingProxyType(
    {"spinbench": read_spinbench, "spec_bench": read_spec_bench, "azure_2023": read_azure_2023}
)
