from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spinbench.errors import UserError
from spinbench.models.distill.dataset import SelfPlayLine
from spinbench.models.distill.recipe import DrafterRecipe, TrainingPhase
from spinbench.models.distill.schedule import TrainingData, learning_rate_factor, plan_steps
from spinbench.models.distill.student import Student, initialise
from spinbench.models.distill.trainer import train

TARGET_IDS = np.arange(200, dtype=np.int32)


def make_data(folder: Path, count: int = 60) -> TrainingData:
    generator = np.random.default_rng(0)
    lines = []
    for _ in range(count):
        start = int(generator.integers(100))
        lines.append(SelfPlayLine(3, start + np.arange(int(generator.integers(8, 24)))))  # the answer counts up
    categories = ["code" if i % 3 == 0 else "chat" for i in range(count)]
    return TrainingData(lines, categories, np.arange(50), np.arange(50, count), folder / "labels", 0)


def make_student(recipe: DrafterRecipe) -> Student:
    embedding = torch.randn(220, 32, generator=torch.Generator().manual_seed(1))
    student = Student(recipe, embedding, torch.from_numpy(TARGET_IDS), torch.float32)
    initialise(student, embedding, None, recipe.seed)
    return student


def test_it_learns(recipe: DrafterRecipe, tmp_path: Path) -> None:
    student = make_student(replace(recipe, phases=(TrainingPhase(10.0),), learning_rate=1e-2))
    log = train(student, TARGET_IDS, make_data(tmp_path), tmp_path / "a.pt", validations=3)
    assert [point.step for point in log.points][-1] == log.steps
    assert log.points[-1].loss < log.points[0].loss - 1
    assert log.points[-1].top1_agreement > log.points[0].top1_agreement
    assert log.soft_label_share == 0


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("stop_at", [1, 5, 9])
def test_an_interrupted_run_ends_the_same(recipe: DrafterRecipe, tmp_path: Path, stop_at: int, optimizer: str) -> None:
    recipe = replace(recipe, phases=(TrainingPhase(2.0), TrainingPhase(1.0, ("code",))), optimizer=optimizer)
    data = make_data(tmp_path)
    whole, parts = make_student(recipe), make_student(recipe)
    full = train(whole, TARGET_IDS, data, tmp_path / "whole.pt", validations=3)
    assert full.steps > 9
    train(parts, TARGET_IDS, data, tmp_path / "parts.pt", validations=3, max_steps=stop_at)
    fresh = make_student(replace(recipe))
    rest = train(fresh, TARGET_IDS, data, tmp_path / "parts.pt", validations=3)
    assert (rest.points, rest.steps, rest.tokens_seen) == (full.points, full.steps, full.tokens_seen)
    for (name, a), (_, b) in zip(whole.named_parameters(), fresh.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_run_killed_between_checkpoints_ends_the_same(recipe: DrafterRecipe, tmp_path: Path) -> None:
    data = make_data(tmp_path)
    whole, killed, fresh = make_student(recipe), make_student(recipe), make_student(recipe)
    full = train(whole, TARGET_IDS, data, tmp_path / "whole.pt")

    def kill(step: int, *_: float) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(killed, TARGET_IDS, data, tmp_path / "killed.pt", checkpoint_every_s=1e-9, on_step=kill)
    steps: list[int] = []
    log = train(fresh, TARGET_IDS, data, tmp_path / "killed.pt", on_step=lambda step, *_: steps.append(step))
    assert steps[0] == 4  # the step whose result was lost is done again
    assert (log.steps, log.points) == (full.steps, full.points)
    for (name, a), (_, b) in zip(whole.named_parameters(), fresh.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_checkpoint_of_other_text_is_refused(recipe: DrafterRecipe, tmp_path: Path) -> None:
    data = make_data(tmp_path)
    train(make_student(recipe), TARGET_IDS, data, tmp_path / "a.pt", max_steps=2)
    data.lines[3].tokens[5] += 1
    with pytest.raises(UserError, match="another recipe or data set"):
        train(make_student(recipe), TARGET_IDS, data, tmp_path / "a.pt")


def test_a_finished_run_trains_no_step(recipe: DrafterRecipe, tmp_path: Path) -> None:
    data = make_data(tmp_path)
    train(make_student(recipe), TARGET_IDS, data, tmp_path / "a.pt")
    steps: list[int] = []
    again = make_student(recipe)
    train(again, TARGET_IDS, data, tmp_path / "a.pt", on_step=lambda step, *_: steps.append(step))
    assert steps == []


@pytest.mark.parametrize("change", [{"learning_rate": 1e-4}, {"phases": (TrainingPhase(1.0),)}, {"seed": 8}])
def test_a_checkpoint_of_another_recipe_is_refused(recipe: DrafterRecipe, tmp_path: Path, change: dict) -> None:
    data = make_data(tmp_path)
    train(make_student(recipe), TARGET_IDS, data, tmp_path / "a.pt", max_steps=2)
    with pytest.raises(UserError, match="another recipe or data set"):
        train(make_student(replace(recipe, **change)), TARGET_IDS, data, tmp_path / "a.pt")


def test_a_broken_checkpoint_is_named(recipe: DrafterRecipe, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"a\.pt: not a training checkpoint"):
        train(make_student(recipe), TARGET_IDS, make_data(tmp_path), tmp_path / "a.pt")


def test_plan_visits_what_the_phases_say(recipe: DrafterRecipe, tmp_path: Path) -> None:
    data = make_data(tmp_path)
    recipe = replace(recipe, phases=(TrainingPhase(1.0), TrainingPhase(2.0, ("code",))))
    plan = plan_steps(recipe, data)
    visits = np.bincount(np.concatenate([step.numbers for step in plan]), minlength=60)
    # a code line (every third) is seen 1 + 2 times, another once, a held-out line never
    assert visits.tolist() == [3 if i % 3 == 0 else 1 for i in range(50)] + [0] * 10
    assert [step.epoch for step in plan] == sorted(step.epoch for step in plan)
    assert {step.epoch for step in plan} == {0, 1, 2}


def test_a_phase_without_lines_is_refused(recipe: DrafterRecipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training line of the categories"):
        plan_steps(replace(recipe, phases=(TrainingPhase(1.0, ("maths",)),)), make_data(tmp_path))


def test_learning_rate_rises_then_falls_to_zero() -> None:
    factors = [learning_rate_factor(step, 100, 10) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == 1.0
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert factors[-1] < 0.001
