"""Every key of the config changes what a simulated run does, or stands in a list with the reason why it does not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from spinbench.errors import UserError
from tests.simulation.small_setup import CONF, DRAFTERS, SmallRuns, write_setup

PER_CHOICE = ("arrivals", "drafting", "engine", "launcher", "pipeline", "selector", "sink", "verification")
"""Groups whose choices have keys of their own; elsewhere all choices have the same ones."""
THE_CHOICE = ("kind", "_target_")
"""Keys that are the choice itself: `test_choices_differ` is theirs."""
NOT_REPLAYED = {
    "capacity.yaml": "runs replays at many rates: their keys are those of replay.yaml and of the groups",
    "distill.yaml": "trains drafters",
    "profile.yaml": "times jobs on real models, or estimates them",
    "record.yaml": "scores drafters on real models",
    "validate.yaml": "runs replays on both engines: their keys are those of replay.yaml and of the groups",
    "recommend.yaml": "chooses among replays, whose keys are those of replay.yaml and of the groups",
    "search/default.yaml": "names replays",
    "experiment/demo.yaml": "sets keys that are explained, and tested, where they are defined",
    **{
        f"experiment/{name}.yaml": "as demo.yaml"
        for name in ("spin", "motivation", "selection", "decomposition", "pipeline", "ablation", "scale")
    },
}
"""Files whose keys no simulated run reads."""


@dataclass(frozen=True)
class Change:
    """A value other than the config's own, and what else must be set for it to matter."""

    value: Any
    given: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)


SPIN = {"selector.exploring_slots": 1, "selector.slots_per_epoch": 4, "selector.rounds_per_slot": 2}
RECORDED = {
    "engine.acceptance": "table", "engine.source": "questions_table", "trace.path": "questions.jsonl",
    "trace.format": "spec_bench", "trace.default_max_new_tokens": 20,
}  # fmt: skip
RANDOM = {"selector": "random"}
ADAPTIVE = {"pipeline.depth": "adaptive", "pipeline.passes_per_trial": 1, "pipeline.trials_per_probe": 1}
BY_SELECTOR = {"drafting": "by_selector"}
KNOBS: dict[str, Change] = {
    "engine/simulation.profile": Change("faster"),
    "engine/simulation.acceptance": Change("bootstrap", RECORDED),
    "engine/simulation.source": Change("other_law.yaml"),
    "engine/simulation.acceptance_seed": Change(1),
    "models.drafters": Change(DRAFTERS[:2]),
    "models.prompt_lookup.max_match_tokens": Change(2),
    "models.prompt_lookup.min_match_tokens": Change(2),
    "models.prompt_lookup.min_match_tokens_before_model": Change(3),
    "trace.path": Change("other_trace.jsonl"),
    # the one counts milliseconds, the other seconds
    "trace.format": Change("vllm_timed_trace", {"trace.path": "timed.jsonl", "trace.format": "mooncake"}),
    "trace.start_s": Change(0.1),
    "trace.end_s": Change(0.1),
    "trace.time_scale": Change(0.5),
    "trace.num_prompts": Change(5),
    "trace.sample_seed": Change(1, {"trace.num_prompts": 5}),
    "trace.part": Change(0.5),
    "trace.part_seed": Change(1, {"trace.part": 0.5}),
    "trace.part_category": Change("code"),
    "trace.categories": Change(["code"]),
    "trace.max_prompt_tokens": Change(100),
    "trace.max_output_tokens": Change(20),
    "trace.default_max_new_tokens": Change(10, RECORDED),
    "arrivals/trace.max_concurrency": Change(2),
    "arrivals/all_at_once.max_concurrency": Change(2),
    "arrivals/closed_loop.max_concurrency": Change(2),
    "arrivals/poisson.request_rate": Change(20.0),
    "arrivals/poisson.burstiness": Change(0.5, {"arrivals.request_rate": 20.0}),
    "arrivals/poisson.max_concurrency": Change(1, {"arrivals.request_rate": 20.0}),
    "arrivals/poisson.seed": Change(1),
    "selector/fixed.drafter": Change(DRAFTERS[1]),
    "selector/random.rounds_per_choice": Change(2),
    "selector/round_robin.rounds_per_choice": Change(2),
    "selector/epsilon_greedy.epsilon": Change(0.5),
    "selector/epsilon_greedy.rounds_per_choice": Change(2),
    "selector/epsilon_greedy.reward": Change("round_goodput"),
    "selector/epsilon_greedy.decay": Change(0.5),
    "selector/epsilon_greedy.prior_rounds": Change(0),
    "selector/greedy.rounds_per_choice": Change(2),
    "selector/greedy.reward": Change("round_goodput"),
    "selector/greedy.decay": Change(0.5),
    "selector/greedy.prior_rounds": Change(0),
    "selector/ucb1.exploration": Change(0.1),
    "selector/ucb1.rounds_per_choice": Change(2),
    "selector/ucb1.reward": Change("draft_goodput"),
    "selector/ucb1.per_request": Change(True),
    "selector/ucbspec.delta": Change(1.0),
    "selector/ucbspec.exploration": Change(0.1),
    "selector/ucbspec.rounds_per_choice": Change(2),
    "selector/ucbspec.reward": Change("round_goodput"),
    "selector/ucbspec.per_request": Change(False),
    "selector/exp3spec.rounds_per_choice": Change(2),
    "selector/exp3spec.reward": Change("round_goodput"),
    "selector/exp3spec.per_request": Change(False),
    "selector/thompson.rounds_per_choice": Change(2),
    "selector/thompson.reward": Change("draft_goodput"),
    "selector/thompson.decay": Change(0.5),
    "selector/thompson.prior_tokens": Change(0),
    "selector/thompson.time_shape": Change(2),
    "selector/merged.drafters": Change(DRAFTERS[:2]),
    "selector/best_fixed.per_request": Change(True),
    "selector/hedge.loss": Change("round_goodput"),
    "selector/hedge.per_request": Change(False),
    "selector/spin.rounds_per_slot": Change(2),
    "selector/spin.slots_per_epoch": Change(4),
    "selector/spin.exploring_slots": Change(2),
    "selector/spin.reward": Change("round_goodput"),
    "selector/spin.decay": Change(0.5, SPIN),
    "selector/spin.prior_rounds": Change(0, SPIN),
    "selector/spin.per_request": Change(False, SPIN),
    "selector/spin.capacity": Change(1),
    "selector/spin_round_goodput.reward": Change("draft_goodput"),
    "selector/contextual.optimism": Change(3.0),
    "selector/contextual.payback_rounds": Change(1.0, choices=BY_SELECTOR),
    "selector/contextual.memory_rounds": Change(5.0, choices=BY_SELECTOR),
    "selector/contextual.learn_costs": Change(True, choices=BY_SELECTOR),
    "selector/joint.optimism": Change(3.0, choices=BY_SELECTOR),
    "selector/joint.payback_rounds": Change(1.0, choices=BY_SELECTOR),
    "selector/joint.memory_rounds": Change(5.0, choices=BY_SELECTOR),
    "selector/joint.learn_costs": Change(True, choices=BY_SELECTOR),
    "drafting/by_selector.max_num_speculative_tokens": Change(2, choices={"selector": "joint"}),
    "drafting/goodput.max_num_speculative_tokens": Change(2),
    "drafting/goodput.prior_rate": Change(0.1),
    "drafting/goodput.decay": Change(0.5),
    "drafting/goodput.probe_share": Change(0.0, {"drafting.prior_rate": 0.05}),
    "drafting/adaptive.max_num_speculative_tokens": Change(2),
    "drafting/adaptive.min_survival": Change(0.6),
    "drafting/adaptive.prior_rate": Change(0.1),
    "drafting/adaptive.decay": Change(0.5),
    "drafting/adaptive.probe_share": Change(0.0, {"drafting.prior_rate": 0.05}),
    "drafting/budget.max_num_speculative_tokens": Change(1),
    "drafting/budget.max_verified_tokens": Change(6),
    "drafting/budget.min_survival": Change(0.6),
    "drafting/budget.prior_rate": Change(0.1),
    "drafting/budget.decay": Change(0.5),
    "drafting/budget.probe_share": Change(0.0, {"drafting.prior_rate": 0.05}),
    "drafting/confident.num_speculative_tokens": Change(3),
    "drafting/confident.threshold": Change(0.6),
    "drafting/confident.confidence": Change("token", {"drafting.num_speculative_tokens": 3}),
    "drafting/confident.copied_tokens": Change([0, 1, 2, 2]),
    "drafting/fixed.num_speculative_tokens": Change(2),
    "drafting/tree.branching": Change([2, 1], RECORDED),
    "drafting/by_match_order.num_speculative_tokens": Change([2, 2, 3, 5]),
    "pipeline/micro_batches.depth": Change(3),
    "pipeline/micro_batches.split": Change("round_robin", choices={"arrivals": "all_at_once"}),
    "pipeline/micro_batches.max_depth": Change(1, ADAPTIVE),
    "pipeline/micro_batches.passes_per_trial": Change(2, ADAPTIVE),
    "pipeline/micro_batches.trials_per_probe": Change(3, ADAPTIVE),
    "switching": Change("ahead", choices=RANDOM),
    "verification/grouped.window_tokens": Change(0),
    "verification/decomposed.width": Change(64),
    "verification/decomposed.pieces": Change("unequal", {"verification.width": 64}),
    "verification/decomposed.window_tokens": Change(500, {"verification.width": 64, "verification.pieces": "unequal"}),
    "scheduler.max_num_seqs": Change(2),
    "scheduler.max_num_batched_tokens": Change(100, choices={"arrivals": "all_at_once"}),
    "kv.block_size": Change(8, {"kv.num_blocks": 40}),
    "kv.num_blocks": Change(20),
    # beside 432 MB of weights in 24 GB, 20 blocks
    "kv.gpu_memory_utilization": Change(0.0185),
    "replicas": Change(2),
    "repeat": Change(1, choices=RANDOM),
    "seed": Change(1, choices=RANDOM),
}
"""By group, or group/choice, and key."""

INERT: dict[str, tuple[str, Change | None]] = {
    "drafting/by_match_order.min_ngram_confidence": (
        "for drafters with an n-gram table, which these runs have none of; see tests/control/draft_length/test_draft_length.py",
        Change(0.5),
    ),
    "selector/joint.branch": (
        "for drafters with an n-gram table, which these runs have none of; see tests/simulation/test_exactness.py",
        Change(False, choices=BY_SELECTOR),
    ),
    "engine/runtime.dtype": ("number format of real models; a simulation's is its profile's", None),
    "engine/runtime.device": ("hardware of real models; a simulation's is its profile's", None),
    "engine/runtime.profile": ("costs that real runs go by; a simulation's are its profile's", None),
    "engine/runtime.attention": ("kernels of real models (tests/runtime/kernels/test_kernels.py)", None),
    "engine/runtime.graphs": ("how real models are run (tests/runtime/graphs/test_graphs.py)", None),
    "engine/runtime.graph_memory_gb": ("memory of real models' graphs (tests/runtime/graphs/test_graphs.py)", None),
    "engine/runtime.tensor_parallel": ("processes of real models (tests/runtime/test_tensor_parallel.py)", None),
    "engine/simulation.lanes": ("takes a profile with a measured overlap (tests/cli/test_simulation.py)", None),
    **{
        f"engine/runtime.ray.{key}": ("where replicas of real models run (tests/cli/test_replicas.py)", None)
        for key in ("address", "cpus_per_replica", "gpus_per_replica")
    },
    "engine/runtime.num_threads": ("threads of real models; a simulation's are its profile's", None),
    "placement.drafter_threads": ("threads of real models", Change(2)),
    "engine/huggingface.dtype": ("as engine/runtime.dtype", None),
    "engine/huggingface.device": ("as engine/runtime.device", None),
    "engine/huggingface.num_threads": ("as engine/runtime.num_threads", None),
    "engine/huggingface.draft_length": ("of a peer that runs real models (tests/cli/test_huggingface.py)", None),
    "models.target": ("must be the profile's target, any other is refused (test below)", None),
    "models.use_chat_template": ("prompts are known by their length", Change(False)),
    "sampling.temperature": ("texts are known: a table of another sampling is refused, a law has none", Change(0.5)),
    "sampling.top_p": ("as temperature", Change(0.5)),
    "sampling.top_k": ("as temperature", Change(5)),
    "slo": ("judges a run when it is over", Change("ttft:200")),
    "method": ("a name for reports", Change("mine")),
    "engine/simulation.oracle_num_speculative_tokens": ("judges a run when it is over", Change(2)),
    "keep": ("says what a folder keeps (tests/metrics/test_store.py)", Change("summary")),
    "sweep.retry_failed": ("says which points are run (tests/sweep/test_worker.py)", Change(True)),
    "sweep.max_attempts": ("as retry_failed", Change(1)),
    **{
        f"sink/{key}": ("says where a finished run is sent (tests/cli/test_sink.py)", None)
        for key in ("wandb.project", "wandb.entity", "wandb.group", "mlflow.experiment", "mlflow.tracking_uri")
    },
    **{
        f"launcher/{key}": ("says where points are run; what they come to is the same (tests/cli/test_sweep.py)", None)
        for key in (
            "processes.workers",
            "slurm.cluster",
            "slurm.workers",
            "slurm.partition",
            "slurm.timeout_min",
            "slurm.cpus_per_worker",
            "slurm.memory_gb",
            "slurm.gpus_per_worker",
            "slurm.options",
            "ray.address",
            "ray.workers",
            "ray.cpus_per_worker",
            "ray.gpus_per_worker",
        )
    },
}
"""The reason, and a change that must not show; None where it cannot be set in a simulation."""

NEEDED: dict[str, dict[str, Any]] = {
    "selector=fixed": {"selector.drafter": DRAFTERS[0]},
    "drafting=tree": RECORDED,
    "drafting=confident": {**RECORDED, "engine.acceptance": "table"},
}
"""Values that a choice has no default for, or needs."""
OF_ALL_CHOICES = {
    "drafting": NEEDED["drafting=confident"],
    "router": {"replicas": 2, "scheduler.max_num_seqs": 1, "trace.time_scale": 0.1},
}
"""Values under which all choices of a group can be compared."""
NEEDED_CHOICES = {"selector=joint": BY_SELECTOR, "drafting=by_selector": {"selector": "joint"}}
"""Choices that go together."""


def keys_of_config() -> Iterator[str]:
    """Every key of every file that a replay can read, as `KNOBS` names them."""
    for path in sorted(CONF.rglob("*.yaml")):
        name = path.relative_to(CONF)
        if str(name) in NOT_REPLAYED:
            continue
        config = OmegaConf.load(path)
        assert isinstance(config, DictConfig)
        for key in flat_keys(config):
            if key.split(".")[0] not in ("defaults", "hydra") and key not in THE_CHOICE:
                yield f"{place_of(name)}.{key}".removeprefix("replay.")


def place_of(name: Path) -> str:
    """How keys of a config file are called: by its group, with the choice where that has keys of its own."""
    group = str(name.parent)
    if group == ".":
        return name.stem
    return f"{group}/{name.stem}" if group in PER_CHOICE else group


def flat_keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Keys with dots."""
    for key in config:
        node = config._get_node(key)
        if isinstance(node, DictConfig) and len(node):
            yield from flat_keys(node, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallRuns]:
    folder = tmp_path_factory.mktemp("setup")
    write_setup(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield SmallRuns()


def with_and_without(runs: SmallRuns, name: str, change: Change) -> tuple[str, str]:
    """Results with the config's own value and with the change."""
    place, _, key = name.partition(".")
    group, _, choice = place.partition("/")
    choices = {**change.choices, **({group: choice} if choice else {})}
    given = {**NEEDED.get(f"{group}={choice}", {}), **change.given}
    full_key = f"{group}.{key}" if key else name
    return runs.result(choices, given), runs.result(choices, {**given, full_key: change.value})


def test_every_key_is_listed_once():
    in_config = set(keys_of_config())
    assert in_config - set(KNOBS) - set(INERT) == set(), "add a change that shows in the records, or a reason"
    assert (set(KNOBS) | set(INERT)) - in_config == set(), "no longer in the config"
    assert not set(KNOBS) & set(INERT)
    assert {path for path in NOT_REPLAYED if not (CONF / path).exists()} == set()


@pytest.mark.parametrize("name", KNOBS)
def test_a_knob_changes_what_happens(runs, name):
    before, after = with_and_without(runs, name, KNOBS[name])
    assert before != after


@pytest.mark.parametrize("name", [name for name, (_, change) in INERT.items() if change is not None])
def test_what_is_called_inert_is(runs, name):
    change = INERT[name][1]
    assert change is not None
    before, after = with_and_without(runs, name, change)
    assert before == after


@pytest.mark.parametrize(
    "group", ["arrivals", "drafting", "pipeline", "placement", "router", "selector", "verification"]
)
def test_choices_differ(runs, group):
    # best_fixed does what some fixed choice does
    choices = [path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "best_fixed"]
    results = {
        choice: runs.result(
            {**NEEDED_CHOICES.get(f"{group}={choice}", {}), group: choice},
            {**OF_ALL_CHOICES.get(group, {}), **NEEDED.get(f"{group}={choice}", {})},
        )
        for choice in choices
    }
    assert len(set(results.values())) == len(choices), results


def test_another_target_than_the_profiles_is_refused(runs):
    with pytest.raises(UserError, match=r"profiled with target 'big-shape', the run's is 'tiny-shape'"):
        runs.result({}, {"models.target": DRAFTERS[0]})


def test_trees_without_ranks_are_refused(runs):
    with pytest.raises(UserError, match=r"drafting=tree needs to know which rank"):
        runs.result({"drafting": "tree"}, {})


def test_the_same_config_gives_the_same_result(runs):
    for selector in ("random", "spin", "epsilon_greedy"):
        assert SmallRuns().result({"selector": selector}, {}) == runs.result({"selector": selector}, {})
