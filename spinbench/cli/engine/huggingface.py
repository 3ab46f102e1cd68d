"""engine=huggingface: Hugging Face's `generate` serves the trace instead of our runtime, and leaves the same files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from spinbench.cli.config.device_choice import choose_device, with_known_dtype
from spinbench.cli.config.replay import HuggingFaceSection, ReplayConfig
from spinbench.cli.engine.assemble import load_prompts, num_threads
from spinbench.cli.engine.decisions import drafter_infos, loop_setting, require_single
from spinbench.cli.engine.live_facts import model_facts, text_decoder
from spinbench.cli.engine.model_shelf import ModelShelf
from spinbench.cli.engine.session import OnProgress, Session, WrapBody
from spinbench.cli.hardware import device_hardware
from spinbench.cli.progress import show_stage
from spinbench.cli.torchrun import check_processes
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.selector.fixed import FixedSelector
from spinbench.control.selector.plain import PlainSelector
from spinbench.errors import UserError
from spinbench.runtime.huggingface.generator import Assistance, HuggingFaceGenerator
from spinbench.runtime.huggingface.static_batches import GenerateBody, StaticBatchLoop
from spinbench.runtime.out_of_memory import if_it_fits, too_little_memory
from spinbench.workload.acceptance.drafter_name import LOOKUP_SUFFIX, PROMPT_LOOKUP, is_ngram
from spinbench.workload.acceptance.ngram_model import NgramModel
from spinbench.workload.arrivals import ArrivalQueue
from spinbench.workload.request import Request

WARM_UP_TOKENS = 8
"""Of the answers to throw-away requests; their prompts are cut to as many."""


class HuggingFaceEngine:
    """Makes sessions in which Hugging Face decides everything."""

    def __init__(self) -> None:
        self._shelf = ModelShelf()

    def check(self, config: ReplayConfig) -> None:
        """Raise UserError for what Hugging Face's `generate` cannot be asked for; loads no model."""
        check_processes(1, None)
        require_single(config)
        choose_device(_section(config))
        _assisting(config, _setting(config, frozenset()))

    @contextmanager
    def session(self, config: ReplayConfig) -> Iterator[Session]:
        """A warm session; torch has the configured threads while inside. Raises UserError, KeyboardInterrupt."""
        less = "take smaller models, or lower scheduler.max_num_seqs"
        with num_threads(_section(config).num_threads), too_little_memory(config.models.target, less):
            yield self._session(config)

    def _session(self, config: ReplayConfig) -> Session:
        engine = _section(config)
        with show_stage("loading the models"):
            trace, target, prompts = load_prompts(config, engine, self._shelf)
            setting = _setting(config, target.eos_token_ids)
            name = _assisting(config, setting)
            model = None if name is None or name == PROMPT_LOOKUP else self._shelf.drafter(name)
            assert not isinstance(model, NgramModel)
            num_tokens = setting.draft_length.max_num_speculative_tokens if engine.draft_length == "drafting" else None
            assistance = None
            if name is not None:
                assistance = Assistance(model, num_tokens, config.models.prompt_lookup.max_match_tokens)
            generator = HuggingFaceGenerator(target, assistance)
        with show_stage("warming up"):
            together = 1 if assistance else config.scheduler.max_num_seqs
            _warm_up(generator, trace.requests[:together], prompts)
        device = target.model.device

        def make_loop(on_progress: OnProgress, wrap: WrapBody) -> StaticBatchLoop:
            queue = ArrivalQueue(trace.requests, config.arrivals)
            body = GenerateBody(generator, queue.requests, prompts, device)
            return StaticBatchLoop(body, wrap(body), queue, prompts, config.scheduler.max_num_seqs, on_progress)

        return Session(
            trace=trace,
            setting=setting,
            make_loop=make_loop,
            decode=text_decoder(target),
            judge=lambda record: {},
            warnings=tuple,
            facts={
                "method": config.method or _label(name),
                "baseline": False,  # a peer: the baseline is plain decoding on our own engines
                "verification": None,
                "pipeline": None,
                "placement": None,
                "switching": None,
                "drafting": "fixed" if name is None or num_tokens else "as Hugging Face",
                "num_speculative_tokens": 0 if name is None else num_tokens,
                "dtype": engine.dtype,
                "models": model_facts(target, [] if name is None else [(name, model)]),
                "hardware": device_hardware(device),
            },
        )


def _section(config: ReplayConfig) -> HuggingFaceSection:
    if not isinstance(config.engine, HuggingFaceSection):
        raise UserError(f"engine.kind is {config.engine.kind}; this needs engine=huggingface")
    return with_known_dtype(config.engine)


def _setting(config: ReplayConfig, eos_token_ids: frozenset[int]) -> LoopSetting:
    return loop_setting(config, drafter_infos(config.models), eos_token_ids, num_blocks=1, num_requests=1)


def _assisting(config: ReplayConfig, setting: LoopSetting) -> str | None:
    """The drafter that assists, None for plain `generate`. Raises UserError for what `generate` does not know."""
    if config.sampling.temperature > 0:
        raise UserError(
            f"sampling.temperature is {config.sampling.temperature}; engine=huggingface is greedy, so that its "
            "texts can be held against ours: set sampling=greedy"
        )
    if isinstance(setting.selector, PlainSelector):
        return None
    if not isinstance(setting.selector, FixedSelector):
        raise UserError(
            f"engine=huggingface has one drafter or none, and {config.selector['_target_'].rpartition('.')[2]} chooses "
            "among several: set selector=plain, or selector=fixed selector.drafter=NAME"
        )
    name = str(config.selector["drafter"])
    if is_ngram(name) or (name != PROMPT_LOOKUP and name.endswith(LOOKUP_SUFFIX)):
        raise UserError(
            f"selector.drafter is {name}; engine=huggingface knows networks and {PROMPT_LOOKUP}, not both in one, "
            "and no n-gram tables"
        )
    if config.scheduler.max_num_seqs > 1:
        raise UserError(
            f"scheduler.max_num_seqs is {config.scheduler.max_num_seqs}; Hugging Face's assisted generation serves one "
            "request at a time: set it to 1"
        )
    by_drafting = _section(config).draft_length == "drafting"
    if not by_drafting and name == PROMPT_LOOKUP:
        raise UserError("engine.draft_length is huggingface; prompt lookup has no default there: set it to drafting")
    fixed = isinstance(setting.draft_length, FixedDraftLength)
    if by_drafting and not (fixed and setting.draft_length.max_num_speculative_tokens):
        raise UserError(
            "engine.draft_length is drafting, which needs drafting=fixed with drafting.num_speculative_tokens >= 1; or "
            "set engine.draft_length=huggingface"
        )
    return name


def _label(name: str | None) -> str:
    return "hf generate" if name is None else f"hf assisted {name.replace('_', ' ')}"


def _warm_up(
    generator: HuggingFaceGenerator, requests: Sequence[Request], prompts: Mapping[str, tuple[int, ...]]
) -> None:
    cut = {request.id: prompts[request.id][:WARM_UP_TOKENS] for request in requests}
    short = [
        replace(request, max_new_tokens=min(WARM_UP_TOKENS, request.max_new_tokens), ignore_eos=True)
        for request in requests
    ]
    while short and if_it_fits(partial(generator.generate, short, [cut[request.id] for request in short])) is None:
        short = short[: len(short) // 2]
