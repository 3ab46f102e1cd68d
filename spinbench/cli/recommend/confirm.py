"""Whether a recommendation can be confirmed on real models here, and the confirmation."""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from spinbench.cli.hydra_app.override_text import with_overrides
from spinbench.cli.recommend.question import Question
from spinbench.cli.recommend.search import Found
from spinbench.cli.replay.command import Replay
from spinbench.cli.replay.provenance import command_line
from spinbench.cli.sweep.paired_runs import run_in_turns
from spinbench.errors import UserError
from spinbench.workload.acceptance.drafter_name import models_of

CONFIRM_FOLDER = "confirm"


def check_confirmation(question: Question) -> str | None:
    """Why the recommendation is not going to be confirmed; None if it is. Raises UserError where it cannot, but must.

    With confirm=auto models are not downloaded, and what the profile says must be of this machine.
    """
    confirm = question.config.confirm
    if confirm == "never":
        return "not asked for (confirm=never)"
    if find_spec("torch") is None:
        return _not(question, "torch is not installed here")
    from spinbench.cli.config.device_choice import known_dtype  # needs torch

    profiled, dtype = question.profile.meta, known_dtype(question.config.runtime)
    if profiled.dtype != dtype:
        return _not(question, f"the profile is of {profiled.dtype}, runtime.dtype is {dtype}")
    if confirm == "always":
        return None
    if profiled.kind != "measured":
        return f"the profile is estimated for a device ({profiled.device.name}) that is not here"
    for found in (_other_machine(question), _no_texts(question), _missing_model(question)):
        if found is not None:
            return found
    return None


def run_confirmation(question: Question, found: Found, replay: Replay) -> pd.DataFrame:
    """Real runs of what is worth one, in turns, see `run_in_turns`. Raises UserError."""
    methods = {
        one.set_up.name: with_overrides(question.real, one.set_up.overrides) for one in found.confirmed
    }  # fmt: skip
    command = command_line("recommend", question.command)
    return run_in_turns(question.folder / CONFIRM_FOLDER, methods, question.config.repeats, command, replay)


def _not(question: Question, reason: str) -> str:
    if question.config.confirm == "always":
        raise UserError(f"confirm is always, and that cannot be: {reason}")
    return reason


def _other_machine(question: Question) -> str | None:
    # imported only here: a search that ends in simulation does without torch
    import torch

    from spinbench.cli.config.device_choice import choose_device
    from spinbench.cli.hardware import device_hardware, profiled_name

    profiled = question.profile.meta.device
    here = device_hardware(choose_device(question.config.runtime))
    name = profiled_name(here)
    threads = question.config.runtime.num_threads or torch.get_num_threads()
    if (profiled.type, profiled.name) != (here["device"], name):
        return f"the profile is of another machine ({profiled.name}; this is {name})"
    if profiled.num_threads != threads:
        return f"the profile is of {profiled.num_threads} threads; here torch has {threads}"
    return None


def _no_texts(question: Question) -> str | None:
    if question.config.simulation.acceptance == "table":
        return None  # recorded with the very prompts that the runtime will see
    if all(request.prompt_len_tokens is None for request in question.trace.requests):
        return None
    return "the trace has no texts, and on made-up tokens drafters would fare otherwise; confirm=always runs it anyway"


def _missing_model(question: Question) -> str | None:
    from spinbench.models.checkpoint import cached_hub_folder
    from spinbench.models.fetch import DEFAULT_MODEL, default_model_path, is_complete
    from spinbench.models.model_shape import find_shape, inflated_parts
    from spinbench.models.ngram_file import packaged_ngrams
    from spinbench.models.packed_drafter import packaged_drafters

    models = question.config.models
    for name in (models.target, *models_of(tuple(models.drafters))):
        parts = inflated_parts(name)
        base = name if parts is None else parts[0]
        if base in (*packaged_drafters(), *packaged_ngrams()) or find_shape(base) is not None:
            continue
        if base == DEFAULT_MODEL:
            if not is_complete(default_model_path()):
                return f"{base} was not fetched yet; spinbench fetch gets it"
        elif not Path(base).expanduser().exists() and cached_hub_folder(base) is None:
            return f"{base} is not on this machine; confirm=always downloads it"
    return None
