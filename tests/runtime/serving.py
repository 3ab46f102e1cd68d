"""Serves requests on tiny models, and the outputs that must come out."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.draft_length.adaptive import AdaptiveDraftLength
from spinbench.control.draft_length.budget import BudgetDraftLength
from spinbench.control.draft_length.confident import ConfidentDraftLength
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.draft_length.goodput import GoodputDraftLength
from spinbench.control.draft_length.protocol import DraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.layout.decomposed import DecomposedLayout
from spinbench.control.layout.grouped import GroupedLayout
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.layout.padded import PaddedLayout
from spinbench.control.layout.protocol import VerificationLayout
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.pipeline import DraftWhileVerifyPipeline, MicroBatchPipeline, Pipeline, SerialPipeline, Split
from spinbench.control.placement import Placement, PlacementKind
from spinbench.control.records.run_record import RunRecord
from spinbench.control.selector.contextual import ContextualSelector
from spinbench.control.selector.epsilon_greedy import EpsilonGreedySelector
from spinbench.control.selector.exp3spec import Exp3SpecSelector
from spinbench.control.selector.fixed import FixedSelector
from spinbench.control.selector.greedy import GreedySelector
from spinbench.control.selector.hedge import HedgeSelector
from spinbench.control.selector.joint import JointSelector
from spinbench.control.selector.merged import MergedSelector
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.protocol import Selector, SelectorSetting
from spinbench.control.selector.random import RandomSelector
from spinbench.control.selector.round_robin import RoundRobinSelector
from spinbench.control.selector.spin import SpinSelector
from spinbench.control.selector.thompson import ThompsonSelector
from spinbench.control.selector.ucb1 import Ucb1Selector
from spinbench.control.selector.ucbspec import UcbSpecSelector
from spinbench.control.switching import SwitchingKind
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.runtime.body import make_body
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.lanes.device_clock import DeviceClock
from spinbench.runtime.process_group import Ranks
from spinbench.runtime.sampling.sampler import Sampling
from spinbench.runtime.session import live_loop
from spinbench.workload.acceptance.ngram_model import NgramModel
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from spinbench.workload.request import Request
from tests.runtime.tiny_models import VOCAB

LAYOUTS: dict[str, VerificationLayout] = {
    "packed": PackedLayout(),
    "padded": PaddedLayout(),
    "grouped": GroupedLayout(window_tokens=6),
    "decomposed": DecomposedLayout(width=7),
    "unequal": DecomposedLayout(width=9, pieces="unequal", window_tokens=3),
}
"""Cut so that contexts of 1 to 40 tokens make several groups and pieces, and drafts straddle pieces."""
GREEDY = Sampling()
NUCLEUS = Sampling(temperature=0.9, top_p=0.9, top_k=20)
SAMPLINGS = {"greedy": GREEDY, "drafter_invariant": NUCLEUS}
SELECTORS = (
    "plain",
    "fixed good",
    "fixed poor",
    "fixed small_vocabulary",
    "fixed prompt_lookup",
    "fixed good+prompt_lookup",
    "random",
    "round_robin",
    "epsilon_greedy",
    "spin",
)
BANDITS = ("greedy", "ucb1", "ucbspec", "exp3spec", "thompson", "hedge")
"""Further selectors: their decisions go through the same code, so that they are tried on fewer set-ups."""
PLANNERS = ("contextual", "joint")
"""Selectors that choose K as well."""
CONFIDENT = ("confident product 0.003", "confident token 0.15")
"""Policies that end drafts by confidence, with thresholds that tiny models are above and below."""
POLICIES = ("goodput", "adaptive", "budget")
"""Draft-length policies that learn."""


def requests(count: int, max_new_tokens: int, seed: int = 0) -> list[Request]:
    """Requests of different lengths that arrive a little apart; some ignore the end token."""
    rng = np.random.default_rng(seed)
    return [
        Request(
            id=f"r{index}",
            arrival_s=0.003 * index,
            max_new_tokens=int(rng.integers(max_new_tokens // 2, max_new_tokens + 1)),
            prompt_token_ids=tuple(rng.integers(4, VOCAB, size=int(rng.integers(1, 24))).tolist()),
            ignore_eos=index % 2 == 0,
            seed=100 + index,
        )
        for index in range(count)
    ]


def three_batches(trace: Sequence[Request], max_num_seqs: int) -> Sequence[Request]:
    """The head of a trace that fills the batch three times: who is served one by one does the same over and over."""
    return trace[: 3 * max_num_seqs]


def drafter_infos(models: Sequence[DrafterModel | NgramModel]) -> list[DrafterInfo]:
    """The models, prompt lookup, the first model behind a lookup, and an n-gram table alone and behind a lookup."""
    networks = [model for model in models if isinstance(model, DrafterModel)]
    infos = [DrafterInfo(model.name, "model") for model in networks]
    infos.append(DrafterInfo("prompt_lookup", "prompt_lookup"))
    if networks:
        infos.append(DrafterInfo(f"{networks[0].name}+prompt_lookup", "lookup_then_model", min_match_tokens=1))
    for model in models:
        if isinstance(model, NgramModel):
            infos.append(DrafterInfo(model.name, "ngram"))
            infos.append(DrafterInfo(f"{model.name}+prompt_lookup", "lookup_then_ngram", min_match_tokens=2))
    return infos


class BothDrafts:
    """Has copies and the n-gram table draft as two branches wherever they part, in turn the one or the other first."""

    needs_confidence = False
    branches = True

    def __init__(self, setting: SelectorSetting) -> None:
        self._pair = setting.drafter_index("prompt_lookup"), setting.drafter_index("tiny-ngram")

    def choose(self, context: RoundContext) -> IntArray:
        """By the number of tokens so far."""
        return np.where(context.output_tokens % 2, *self._pair)

    def beside(self, context: RoundContext) -> tuple[IntArray, IntArray]:
        """The other one, for a longer draft."""
        parting = context.ngram_agreed == 0
        other = np.where(context.output_tokens % 2, *reversed(self._pair))
        return np.where(parting, other, -1), np.where(parting, 6, 0)

    def begin(self, context: RoundContext) -> None:
        """Nothing to note."""

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""


def make_selector(name: str, setting: SelectorSetting) -> Selector:
    """A selector by the names in `SELECTORS`, with parameters that make it switch often."""
    kind, _, drafter = name.partition(" ")
    match kind:
        case "plain":
            return PlainSelector(setting)
        case "fixed":
            return FixedSelector(setting, drafter=drafter)
        case "random":
            return RandomSelector(setting, rounds_per_choice=1)
        case "round_robin":
            return RoundRobinSelector(setting, rounds_per_choice=2)
        case "epsilon_greedy":
            return EpsilonGreedySelector(
                setting, epsilon=0.3, rounds_per_choice=1, reward="round_goodput", decay=0.9, prior_rounds=2
            )
        case "spin":
            return SpinSelector(
                setting, rounds_per_slot=2, slots_per_epoch=3, exploring_slots=1, reward="draft_goodput", decay=1.0,
                prior_rounds=2, per_request=True, capacity=max(1, -(-setting.max_num_seqs // 2)),
            )  # fmt: skip
        case "greedy":
            return GreedySelector(setting, rounds_per_choice=1, reward="draft_goodput", decay=0.5, prior_rounds=0)
        case "ucb1":
            return Ucb1Selector(setting, exploration=1, rounds_per_choice=1, reward="round_goodput", per_request=False)
        case "ucbspec":
            return UcbSpecSelector(
                setting, delta=0.1, exploration=1, rounds_per_choice=1, reward="acceptance_length", per_request=True
            )
        case "exp3spec":
            return Exp3SpecSelector(setting, rounds_per_choice=1, reward="acceptance_length", per_request=True)
        case "hedge":
            return HedgeSelector(setting, loss="round_goodput", per_request=False)
        case "thompson":
            return ThompsonSelector(
                setting, rounds_per_choice=1, reward="round_goodput", decay=0.9, prior_tokens=4, time_shape=5
            )
        case "merged":
            return MergedSelector(setting, drafters=drafter.split(","))
        case "both":
            return BothDrafts(setting)
        case "contextual" | "joint":
            make = ContextualSelector if kind == "contextual" else JointSelector
            branch = {} if kind == "contextual" else {"branch": True}
            return make(setting, optimism=1.0, payback_rounds=4, memory_rounds=50, learn_costs=False, **branch)
    raise ValueError(name)


def make_policy(name: str, setting: SelectorSetting, most: int) -> DraftLength:
    """A policy by the names in `POLICIES` and `CONFIDENT`, with parameters that make it change its mind often."""
    common = {"max_num_speculative_tokens": most, "prior_rate": 0.7, "decay": 0.8, "probe_share": 0.01}
    kind, *parameters = name.split()
    match kind:
        case "confident":
            confidence, threshold = parameters
            return ConfidentDraftLength(
                setting, num_speculative_tokens=most, threshold=float(threshold),
                confidence="product" if confidence == "product" else "token", copied_tokens=[1, 1, 2, 3],
            )  # fmt: skip
        case "goodput":
            return GoodputDraftLength(setting, **common)
        case "adaptive":
            return AdaptiveDraftLength(setting, min_survival=0.3, **common)
        case "budget":
            return BudgetDraftLength(setting, max_verified_tokens=7, min_survival=0.1, **common)
    raise ValueError(name)


def make_pipeline(depth: int | Literal["adaptive", "draft_while_verify"], split: Split) -> Pipeline:
    """One of this depth, or the serial one that drafts ahead."""
    if depth == "draft_while_verify":
        return DraftWhileVerifyPipeline()
    return SerialPipeline() if depth == 1 else MicroBatchPipeline(depth, split, 8, 2, 2)


def loop_setting(
    target: TargetModel,
    models: Sequence[DrafterModel | NgramModel],
    num_requests: int,
    *,
    selector: str,
    draft_length: DraftLength | int = 4,
    policy: str = "fixed",
    costs: CostModel | None = None,
    max_num_seqs: int = 3,
    layout: str = "packed",
    num_kv_blocks: int = 200,
    block_size: int = 4,
    depth: int | Literal["adaptive", "draft_while_verify"] = 1,
    split: Split = "by_drafter",
    placement: PlacementKind = "shared",
    switching: SwitchingKind = "on_demand",
    branches: bool = False,
) -> LoopSetting:
    """The decisions of a run, on either engine."""
    infos = tuple(drafter_infos(models))
    most = draft_length if isinstance(draft_length, int) else draft_length.max_num_speculative_tokens
    rng = np.random.default_rng(7)
    setting = SelectorSetting(
        infos, max_num_seqs, num_requests, rng, most, costs, chooses_draft_length=selector in PLANNERS,
        placement=Placement(placement), allows_branches=branches,
    )  # fmt: skip
    chosen = make_selector(selector, setting)
    if isinstance(chosen, ContextualSelector | JointSelector):
        draft_length = chosen
    elif policy != "fixed":
        draft_length = make_policy(policy, setting, most)
    return LoopSetting(
        drafters=infos,
        selector=chosen,
        draft_length=FixedDraftLength(draft_length) if isinstance(draft_length, int) else draft_length,
        layout=LAYOUTS[layout],
        eos_token_ids=target.eos_token_ids,
        num_kv_blocks=num_kv_blocks,
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=64,
        pipeline=make_pipeline(depth, split),
        placement=Placement(placement),
        switching=switching,
    )


def serve(
    target: TargetModel,
    models: Sequence[DrafterModel | NgramModel],
    trace: Sequence[Request],
    *,
    sampling: Sampling = GREEDY,
    execution: Execution | None = None,
    clock: DeviceClock | None = None,
    ranks: Ranks | None = None,
    **decisions: Any,
) -> RunRecord:
    """Serve `trace` on the runtime; `decisions` are those of `loop_setting`. Of `ranks` the first has the models."""
    setting = loop_setting(target, models, len(trace), **decisions)
    by_name = {model.name: model for model in models} if ranks is None or ranks.is_first else {}
    drafters = [(info, by_name.get(info.name.removesuffix("+prompt_lookup"))) for info in setting.drafters]
    body = make_body(
        target, drafters, sampling, setting.num_kv_blocks, setting.block_size, setting.placement, execution=execution,
        clock=clock, ranks=ranks,
    )  # fmt: skip
    prompts = {request.id: request.prompt_token_ids or () for request in trace}
    try:
        return live_loop(setting, body, ArrivalQueue(trace, ArrivalPattern(kind="trace")), prompts).run()
    finally:
        body.close()


def outputs(record: RunRecord) -> dict[str, tuple[int, ...]]:
    """Output token ids by request."""
    return {request.request_id: request.output_token_ids for request in record.requests}


def hf_outputs(target: TargetModel, trace: Sequence[Request]) -> dict[str, tuple[int, ...]]:
    """What Hugging Face's own greedy `generate` answers, one request at a time, with transformers' own attention."""
    target.model.set_attn_implementation("sdpa")
    answers = {}
    for request in trace:
        prompt = torch.tensor([request.prompt_token_ids])
        eos = None if request.ignore_eos else sorted(target.eos_token_ids)
        out = target.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=request.max_new_tokens,
            eos_token_id=eos, pad_token_id=0,
        )  # fmt: skip
        answers[request.id] = tuple(out[0, prompt.shape[1] :].tolist())
    return answers
