import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spinbench.errors import UserError
from spinbench.models.distill.config import SelfPlayConfig
from spinbench.models.distill.dataset import read_self_play
from spinbench.models.distill.self_play import chat_frame, generate_self_play
from spinbench.models.loaded_model import TargetModel

CONFIG = SelfPlayConfig(lines=10, prompt_tokens=6, answer_tokens=8, batch_lines=4)


class KilledError(Exception):
    """Stands for a SIGKILL."""


def test_frame(target: TargetModel) -> None:
    frame = chat_frame(target)
    tokenizer = target.tokenizer
    assert tokenizer is not None
    assert tokenizer.decode(frame.prefix) == "<system>be brief<end><user>"
    assert tokenizer.decode(frame.suffix) == "<end><assistant>"
    assert frame.end_ids == {256}


def test_lines_are_greedy_answers_to_own_prompts(target: TargetModel, tmp_path: Path) -> None:
    path = generate_self_play(target, CONFIG, tmp_path / "text.jsonl", seed=1)
    lines = read_self_play(path)
    frame = chat_frame(target)
    assert len(lines) == 10
    assert len({line.tokens[: line.prompt_tokens].tobytes() for line in lines}) == 10
    for line in lines:
        prompt = tuple(line.tokens[: line.prompt_tokens].tolist())
        assert prompt[: len(frame.prefix)] == frame.prefix
        assert prompt[-len(frame.suffix) :] == frame.suffix
        assert len(frame.prefix) < len(prompt) - len(frame.suffix) <= len(frame.prefix) + 6
        assert 1 <= line.answer_tokens <= 8
        with torch.no_grad():
            choices = target.model(torch.from_numpy(line.tokens)[None]).logits[0].argmax(-1)
        answer = line.tokens[line.prompt_tokens :]
        assert choices[line.prompt_tokens - 1 : -1].tolist() == answer.tolist()
        assert 256 not in answer[:-1]
        assert line.answer_tokens == 8 or answer[-1] == 256


def test_seed_decides_the_text(target: TargetModel, tmp_path: Path) -> None:
    texts = [
        generate_self_play(target, CONFIG, tmp_path / f"{name}.jsonl", seed).read_text()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert texts[0] == texts[1] != texts[2]


def test_the_callers_random_state_is_untouched(target: TargetModel, tmp_path: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    generate_self_play(target, CONFIG, tmp_path / "text.jsonl", seed=1)
    assert torch.equal(torch.rand(1), wanted)


@pytest.mark.parametrize("kill_at", [1, 2])
def test_a_killed_run_goes_on(target: TargetModel, tmp_path: Path, kill_at: int) -> None:
    whole = generate_self_play(target, CONFIG, tmp_path / "whole.jsonl", seed=1).read_text()
    calls: list[int] = []

    def report(_lines: int, _wanted: int) -> None:
        calls.append(1)
        if len(calls) > kill_at:
            raise KilledError

    path = tmp_path / "killed.jsonl"
    with pytest.raises(KilledError):
        generate_self_play(target, CONFIG, path, seed=1, report=report)
    with path.open("a") as file:
        file.write("[12,[1,2,3")  # the next batch was half written
    assert generate_self_play(target, CONFIG, path, seed=1).read_text() == whole


def test_an_existing_file_is_extended_not_changed(target: TargetModel, tmp_path: Path) -> None:
    given = tmp_path / "given.jsonl"
    given.write_text("[2,[5,6,7]]\n[1,[5,6,7]]")  # no newline at its end
    path = generate_self_play(target, replace(CONFIG, file=str(given), lines=4), tmp_path / "text.jsonl", seed=1)
    assert given.read_text() == "[2,[5,6,7]]\n[1,[5,6,7]]"
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    assert rows[:2] == [[2, [5, 6, 7]], [1, [5, 6, 7]]]
    assert len(rows) == 4


def test_enough_lines_need_no_tokenizer(target: TargetModel, tmp_path: Path) -> None:
    given = tmp_path / "given.jsonl"
    given.write_text("[2,[5,6,7]]\n[1,[5,6,7]]\n")
    mute = replace(target, tokenizer=None)
    config = replace(CONFIG, file=str(given), lines=2)
    assert len(read_self_play(generate_self_play(mute, config, tmp_path / "text.jsonl", seed=1))) == 2
    with pytest.raises(UserError, match="has no tokenizer"):
        generate_self_play(mute, CONFIG, tmp_path / "other.jsonl", seed=1)


def test_options_change_the_text(target: TargetModel, tmp_path: Path) -> None:
    texts = set()
    variants = (
        CONFIG,
        replace(CONFIG, top_p=0.2),
        replace(CONFIG, opening_share=1.0),
        replace(CONFIG, answer_tokens=3),
    )
    for number, config in enumerate((*variants, replace(CONFIG, prompt_tokens=2), replace(CONFIG, batch_lines=3))):
        texts.add(generate_self_play(target, config, tmp_path / f"{number}.jsonl", seed=1).read_text())
    assert len(texts) == 6


def test_a_target_that_repeats_itself_is_reported(target: TargetModel, tmp_path: Path) -> None:
    config = replace(CONFIG, top_p=1e-6, opening_share=0.0)
    with pytest.raises(UserError, match="20 batches brought no new prompt"):
        generate_self_play(target, config, tmp_path / "text.jsonl", seed=1)
    assert len(np.atleast_1d(read_self_play(tmp_path / "text.jsonl"))) == 1
