"""How a config becomes a run: KV blocks, threads, prefill size, chat template."""

import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from spinbench.cli.config.replay import ReplayConfig, parse_config
from spinbench.cli.engine.decisions import choose_num_blocks, drafter_infos, loop_setting
from spinbench.control.kv_budget import blocks_for_longest
from spinbench.errors import UserError
from spinbench.metrics.store import read_run
from spinbench.models.native_dtype import native_dtype
from tests.cli.conftest import CommandLine
from tests.cli.test_config import composed


def test_room_for_the_longest_requests_of_a_batch() -> None:
    # blocks of 16: 1, 2, 2, 3; the two longest need 3 + 2
    assert blocks_for_longest([16, 17, 32, 33], max_num_seqs=2, block_size=16) == 5
    assert blocks_for_longest([16, 17, 32, 33], max_num_seqs=9, block_size=16) == 8


def test_blocks_are_counted_unless_given() -> None:
    lengths = {"a": 100, "b": 20, "c": 50}
    config = parse_config(composed("scheduler.max_num_seqs=2"), ReplayConfig)
    # 100 tokens take 7 blocks of 16, 50 take 4
    assert choose_num_blocks(config, lengths) == 11
    given = parse_config(composed("kv.num_blocks=7"), ReplayConfig)
    assert choose_num_blocks(given, lengths) == 7
    too_few = parse_config(composed("kv.num_blocks=6"), ReplayConfig)
    with pytest.raises(UserError, match=r"request 'a' may need 7 KV blocks .*raise kv.num_blocks"):
        choose_num_blocks(too_few, lengths)


def test_plain_decoding_keeps_no_room_for_drafts() -> None:
    for options in (["drafting.num_speculative_tokens=8"], ["drafting=tree"]):
        config = parse_config(composed("selector=plain", *options), ReplayConfig)
        setting = loop_setting(config, drafter_infos(config.models), frozenset(), 1, 1)
        assert (setting.max_num_draft_tokens, setting.branch_tokens) == (0, 0)


def test_threads_are_set_for_the_run_alone(spinbench: CommandLine) -> None:
    import torch

    before = torch.get_num_threads()
    assert spinbench.replay("engine.num_threads=2", "trace.num_prompts=1").code == 0
    assert read_run(Path("run")).meta["hardware"]["threads"] == 2
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("limit", "prefills"), [(1, 3), (2048, 1)])
def test_prefills_are_cut_by_tokens(spinbench: CommandLine, limit: int, prefills: int) -> None:
    done = spinbench.replay("trace.num_prompts=3", f"scheduler.max_num_batched_tokens={limit}")
    assert done.code == 0
    spans = read_run(Path("run")).spans
    assert (spans["kind"] == "prefill").sum() == prefills


@pytest.mark.parametrize(("wanted", "extra_tokens"), [("true", 4), ("false", 0)])
def test_the_chat_template_is_used_on_demand(spinbench: CommandLine, wanted: str, extra_tokens: int) -> None:
    shutil.copytree(spinbench.models.target, "chatty")
    Path("chatty/chat_template.jinja").write_text("<<{{ messages[0]['content'] }}>>")
    done = spinbench.replay("models.target=chatty", f"models.use_chat_template={wanted}", "trace.num_prompts=1")
    assert done.code == 0
    # 'Say 0 words, ' is 13 bytes
    assert list(read_run(Path("run")).requests["prompt_tokens"]) == [13 + extra_tokens]


def test_the_number_format_is_the_one_asked_for(spinbench: CommandLine) -> None:
    assert spinbench.replay("engine.dtype=bfloat16", "trace.num_prompts=1").code == 0
    run = read_run(Path("run"))
    assert run.meta["dtype"] == "bfloat16"
    assert OmegaConf.create(dict(run.config)).engine.dtype == "bfloat16"


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_what_the_hardware_multiplies(
    spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    """On both kinds of CPU; the config keeps what was asked for, meta.json says what it meant."""
    capabilities = {"avx2": True, "avx512_bf16": native}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    expected = "bfloat16" if native else "float32"
    assert spinbench.replay("engine.dtype=auto", "engine.device=cpu", "trace.num_prompts=1").code == 0
    run = read_run(Path("run"))
    assert run.meta["dtype"] == expected
    assert OmegaConf.create(dict(run.config)).engine.dtype == "auto"
    assert native_dtype(torch.device("cpu")) == expected
