"""What real models and their machine are, as meta.json has it, and how their answers are read."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from spinbench.cli.config.replay import ReplayConfig
from spinbench.cli.engine.assemble import Assembly
from spinbench.cli.engine.execution import attention_kind, graph_mode
from spinbench.cli.hardware import device_hardware
from spinbench.dotted_name import is_dotted_name
from spinbench.models.load import DrafterModel, TargetModel, macs_per_token
from spinbench.models.ngram_file import packaged_ngrams
from spinbench.models.packed_drafter import packaged_drafters
from spinbench.runtime.kv.kv_pool import KvShape
from spinbench.workload.acceptance.drafter_name import LOOKUP_SUFFIX
from spinbench.workload.acceptance.ngram_model import NgramModel


def live_facts(config: ReplayConfig, assembly: Assembly) -> dict[str, Any]:
    """Entries of meta.json that follow from the models and the machine that they are on."""
    return {
        "dtype": assembly.engine.dtype,
        "models": model_facts(assembly.target, [(info.name, model) for info, model in assembly.drafters]),
        # with how the models are run on it: the simulator's entry has other keys as well
        "hardware": {
            **device_hardware(assembly.target.model.device),
            "attention": attention_kind(assembly.engine),
            "graphs": graph_mode(assembly.engine),
            "tensor_parallel": assembly.engine.tensor_parallel,
        },
    }


def model_facts(
    target: TargetModel, drafters: Iterable[tuple[str, DrafterModel | NgramModel | None]]
) -> dict[str, Any]:
    """`models` of meta.json, from drafters by their names in the run: a model behind a lookup is one of its own."""
    return {
        "target": {
            "name": target.name,
            "kind": target.kind,
            "sha256": target.weights_sha256,
            "macs_per_token": macs_per_token(target.model),
            "kv_bytes_per_token": KvShape.of(target.model.config).bytes_per_token(target.model.dtype),
        },
        "drafters": [
            {
                "name": name,
                "kind": _drafter_kind(name),
                "sha256": model.weights_sha256,
                "macs_per_token": model.macs_per_token,
            }
            for name, model in drafters
            if model is not None
        ],
    }


def text_decoder(target: TargetModel) -> Callable[[Sequence[int]], str] | None:
    """Output token ids to text; None where there is no tokenizer."""
    tokenizer = target.tokenizer
    return None if tokenizer is None else lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True))


def _drafter_kind(name: str) -> str:
    """Where a drafter comes from: packaged, path, python or hub."""
    name = name.removesuffix(LOOKUP_SUFFIX)
    if name in (*packaged_drafters(), *packaged_ngrams()):
        return "packaged"
    if Path(name).expanduser().exists():
        return "path"
    return "python" if is_dotted_name(name) else "hub"
