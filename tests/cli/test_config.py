"""The shipped config: every choice of every group composes and is valid, and says what each key means."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from spinbench.cli.config.error import field_names
from spinbench.cli.config.replay import ReplayConfig, parse_config
from spinbench.cli.engine.assemble import sampling
from spinbench.cli.engine.decisions import drafter_infos, loop_setting
from spinbench.cli.locations import find_trace, shipped_folder
from spinbench.cli.recommend.config import RecommendConfig
from spinbench.control.costs.overlap import Overlap
from spinbench.errors import UserError
from spinbench.workload.load import load_trace
from tests.composed import composed
from tests.control.contexts import context
from tests.control.made_costs import cost_model

CONF = shipped_folder("conf")
CHOICES = [
    f"{path.parent.name}={path.stem}"
    for path in sorted(CONF.glob("*/*.yaml"))
    if path.parent.name not in ("experiment", "search")  # these are of no replay, or several choices at once
]
MANDATORY = {
    "models=huggingface": ["models.target=some/where", "models.drafters=[prompt_lookup]"],
    "verification=decomposed": ["verification.width=64"],
    "selector=fixed": ["selector.drafter=prompt_lookup"],
    "selector=joint": ["drafting=by_selector"],
    "drafting=by_selector": ["selector=joint"],
    "trace=spec_bench": ["trace.path=questions.jsonl"],
    **{
        f"trace={name}": ["trace.path=some.file"]
        for name in ("azure_2023", "azure_2024", "burstgpt", "mooncake", "sharegpt", "vidur", "vllm_timed_trace")
    },
}


KNOWN_BY_OTHERS = ("selector", "drafting", "models", "engine")
"""Groups whose choices go with some choices of others only: each is tried by itself."""


def tried_together() -> list[tuple[str, ...]]:
    """Every choice once at least: of the groups that do not know each other, one of each at a time."""
    alone = [(choice,) for choice in CHOICES if choice.startswith(KNOWN_BY_OTHERS)]
    others = [choice for choice in CHOICES if not choice.startswith(KNOWN_BY_OTHERS)]
    groups = [list(group) for _, group in itertools.groupby(others, lambda choice: choice.partition("=")[0])]
    together = zip(*(itertools.cycle(group) for group in groups), strict=False)
    return [*alone, *itertools.islice(together, max(map(len, groups)))]


def test_every_choice_is_tried() -> None:
    assert {choice for choices in tried_together() for choice in choices} == set(CHOICES)


@pytest.mark.parametrize("choices", tried_together(), ids=" ".join)
def test_every_choice_is_valid(choices: tuple[str, ...]) -> None:
    mandatory = [word for choice in choices for word in MANDATORY.get(choice, [])]
    config = parse_config(composed(*choices, *mandatory), ReplayConfig)
    if choices[0] in ("selector=oracle", "selector=best_fixed"):  # nobody knows the answers on real models
        with pytest.raises(UserError, match=choices[0]):
            loop_setting(config, drafter_infos(config.models), frozenset(), 1, 1)
        return
    setting = loop_setting(config, drafter_infos(config.models), frozenset(), 1, 1)
    assert len(setting.drafters) == len(config.models.drafters)
    sampling(config)


def test_who_prices_rounds_is_told_what_overlaps() -> None:
    def length(*overrides: str, lanes_share_device: bool = True) -> int:
        names = "models.drafters=[smollm2-d128-general,smollm2-d576-general]"
        drafting = "drafting=goodput", "drafting.probe_share=0"
        config = parse_config(composed("selector=round_robin", *drafting, names, *overrides), ReplayConfig)
        infos = drafter_infos(config.models)
        costs = replace(cost_model(infos, drafter_scale=0.05, straight=True), overlap=Overlap(1.0, 1.0, 90.0, 90.0))
        made = loop_setting(config, infos, frozenset(), 1, 9, costs, lanes_share_device=lanes_share_device)
        seen = replace(context(2, num_drafters=2), remaining_tokens=np.full(2, 99))
        return int(made.draft_length.lengths(seen, np.zeros(2, np.int64))[0])

    # lanes of which the drafters' is 90 times as slow; of more than two nobody knows that
    assert length("placement=drafters_together", lanes_share_device=False) == length("placement=own_devices") > 0
    assert length("placement=drafters_together") == 0
    # what is drafted ahead on the target's device takes its time
    assert length("pipeline=draft_while_verify") < length("pipeline=serial")


def test_the_default_is_spin_on_smollm2_with_its_drafters_and_prompt_lookup() -> None:
    config = parse_config(composed(), ReplayConfig)
    assert config.selector["_target_"].endswith(".SpinSelector")
    assert config.selector["reward"] == "draft_goodput"
    assert config.models.drafters == [
        "smollm2-d128-general", "smollm2-d576-slim-code-maths", "smollm2-d576-slim-prose-chat", "smollm2-d576-slim-general",
        "smollm2-d576-general", "smollm2-ngram", "prompt_lookup", "smollm2-d576-slim-general+prompt_lookup",
        "smollm2-ngram+prompt_lookup",
    ]  # fmt: skip


def test_arrivals_follow_the_seed() -> None:
    assert parse_config(composed("arrivals=poisson", "seed=7"), ReplayConfig).arrivals.seed == 7


def test_the_demo_takes_one_prompt_of_each_category() -> None:
    config = parse_config(composed("experiment=demo"), ReplayConfig)
    requests = load_trace(find_trace(config.trace.path), config.trace.format, config.trace).requests
    categories = [request.category for request in requests]
    assert len(requests) == 8
    assert {categories.count(category) for category in categories} == {1}
    assert config.arrivals.kind == "all_at_once"


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_key_is_explained_by_a_comment_above_it(path: Path) -> None:
    if path.parent.name == "experiment":
        pytest.skip("keys of an experiment are explained where they are defined")
    lines = path.read_text().split("\nhydra:")[0].splitlines()
    assert lines[0].startswith("# ")
    for number, line in enumerate(lines):
        key = re.match(r" *(\w+):", line)
        opens_a_section = number + 1 < len(lines) and re.match(r" +#| +-", lines[number + 1]) and line.endswith(":")
        if key and key[1] not in ("defaults", "_target_") and not line.startswith("  - "):
            assert lines[number - 1].lstrip().startswith("#") or opens_a_section, f"{path.name}: {line}"


def test_every_key_of_the_schema_is_in_the_config() -> None:
    config = composed("experiment=demo")
    for name, field in ReplayConfig.model_fields.items():
        assert name in config
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            assert set(config[name]) == set(field_names(field.annotation))
    assert set(config.trace) == set(field_names(ReplayConfig, ["trace"]))


def test_every_key_of_a_recommendation_is_in_the_config() -> None:
    config = composed(name="recommend")
    assert set(config) == set(RecommendConfig.model_fields)
    for name, field in RecommendConfig.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            assert set(config[name]) == set(field_names(field.annotation))


def test_the_distillation_config_is_valid() -> None:
    from spinbench.cli.distill.command import DistillCommandConfig

    config = parse_config(composed("distill.work_dir=here", name="distill"), DistillCommandConfig)
    assert config.distill.output_dir == "here/drafters"
    # one way to set the threads: engine.num_threads
    known = {*field_names(DistillCommandConfig, ["distill"])} - {"threads"}
    assert set(composed(name="distill").distill) == known
