import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from spinbench.errors import UserError
from spinbench.models.distill import pipeline
from spinbench.models.distill.config import DistillConfig, SelfPlayConfig
from spinbench.models.distill.dataset import SelfPlayLine, read_self_play
from spinbench.models.distill.pipeline import run_distill, shared_prefix_tokens
from spinbench.models.distill.presets import SMOLLM2, chosen_recipes, ladder
from spinbench.models.distill.recipe import DrafterRecipe, TrainingPhase
from spinbench.models.load import load_drafter
from spinbench.models.loaded_model import TargetModel, input_embedding
from spinbench.models.ngram_file import load_ngrams


def make_config(folder: Path) -> DistillConfig:
    return DistillConfig(
        work_dir=str(folder / "work"),
        output_dir=str(folder / "drafters"),
        held_out_lines=6,
        self_play=SelfPlayConfig(lines=24, prompt_tokens=6, answer_tokens=12, batch_lines=12),
    )


def recipes(recipe: DrafterRecipe) -> tuple[DrafterRecipe, ...]:
    wide = replace(
        recipe,
        name="tiny-d32",
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=4,
        num_key_value_heads=2,
        initialisation="target_layers",
        target_layers=(0, 2),
    )
    slim = replace(
        wide,
        name="tiny-d32-slim",
        intermediate_size=20,
        draft_vocab_size=120,
        initialisation="trained_drafter",
        source_drafter="tiny-d32",
        target_layers=(),
    )
    return recipe, wide, slim


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_from_nothing_to_drafters(
    target: TargetModel, recipe: DrafterRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path)
    scores = run_distill(config, target, recipes(recipe), quiet())
    assert list(scores) == ["tiny-ngram", "tiny-d16", "tiny-d32", "tiny-d32-slim"]
    lines = read_self_play(tmp_path / "work" / "self_play.jsonl")
    assert len(lines) == 24
    for name in list(scores)[1:]:
        drafter = load_drafter(str(tmp_path / "drafters" / name), target)
        assert drafter.model.config.num_hidden_layers == 2
        card = (tmp_path / "drafters" / name / "card.md").read_text()
        assert f"| all | {scores[name]['all'].tokens} | {scores[name]['all'].top1_agreement:.3f} |" in card
        assert "100 % of the answer tokens" in card
        description = json.loads((tmp_path / "drafters" / name / "drafter.json").read_text())
        assert (description["target"], description["target_weights_sha256"]) == ("tiny", "0" * 64)
    table = load_ngrams(str(tmp_path / "drafters" / "tiny-ngram"), target)
    assert sum(len(group.key) for group in table.groups) > 0
    assert f"| all | {scores['tiny-ngram']['all'].tokens} |" in (tmp_path / "drafters/tiny-ngram/card.md").read_text()
    # started again it does nothing but answer
    monkeypatch.setattr(pipeline, "train", None)
    before = (tmp_path / "drafters" / "tiny-d16" / "weights.safetensors").stat().st_mtime_ns
    assert run_distill(config, target, recipes(recipe), quiet()) == scores
    assert (tmp_path / "drafters" / "tiny-d16" / "weights.safetensors").stat().st_mtime_ns == before


def test_an_ngram_table_alone_needs_no_labels(target: TargetModel, recipe: DrafterRecipe, tmp_path: Path) -> None:
    config = replace(make_config(tmp_path), drafters=("tiny-ngram",))
    assert list(run_distill(config, target, recipes(recipe), quiet())) == ["tiny-ngram"]
    assert not (tmp_path / "work" / "soft_labels").exists()


def test_hard_labels_only(target: TargetModel, recipe: DrafterRecipe, tmp_path: Path) -> None:
    config = replace(make_config(tmp_path), soft_labels=False, drafters=("tiny-d16",))
    run_distill(config, target, recipes(recipe), quiet())
    assert not (tmp_path / "work" / "soft_labels").exists()
    assert (
        "cross entropy to the token that the target took"
        in (tmp_path / "drafters" / "tiny-d16" / "card.md").read_text()
    )


def test_an_unknown_drafter_fails_before_any_work(target: TargetModel, recipe: DrafterRecipe, tmp_path: Path) -> None:
    config = replace(make_config(tmp_path), drafters=("tiny-d17",))
    with pytest.raises(
        UserError, match=r"distill.drafters: no recipe 'tiny-d17' .* all, tiny-d16, tiny-d32, tiny-d32-slim"
    ):
        run_distill(config, target, recipes(recipe), quiet())
    assert not (tmp_path / "work").exists()


def test_a_cut_drafter_needs_its_source(target: TargetModel, recipe: DrafterRecipe, tmp_path: Path) -> None:
    config = replace(make_config(tmp_path), drafters=("tiny-d32-slim",))
    with pytest.raises(
        UserError, match=r"tiny-d32-slim is cut from tiny-d32, which is not in .*; name tiny-d32 before it"
    ):
        run_distill(config, target, recipes(recipe), quiet())
    assert not (tmp_path / "work").exists()


def test_foreign_token_ids_are_refused(target: TargetModel, recipe: DrafterRecipe, tmp_path: Path) -> None:
    given = tmp_path / "given.jsonl"
    given.write_text("".join(f"[1,[{i},{i + 1}]]\n" for i in range(255, 265)))
    config = replace(make_config(tmp_path), self_play=SelfPlayConfig(file=str(given), lines=10))
    with pytest.raises(UserError, match=r"self_play.jsonl:5: token id 260, but the target's vocabulary has 260"):
        run_distill(config, target, recipes(recipe), quiet())


def test_shared_prefix() -> None:
    lines = [SelfPlayLine(n, np.array(t)) for n, t in ((3, [1, 2, 3, 9]), (4, [1, 2, 5, 6, 9]), (3, [1, 2, 3, 8]))]
    assert shared_prefix_tokens(lines) == 2
    assert shared_prefix_tokens(lines[:1]) == 3


def test_config_scales_and_seeds_the_recipes() -> None:
    config = DistillConfig(work_dir="w", output_dir="o", passes_scale=0.5, seed=10, drafters=("smollm2-d128-general",))
    (chosen,) = chosen_recipes(config, SMOLLM2)
    (plain,) = (recipe for recipe in SMOLLM2 if recipe.name == chosen.name)
    assert chosen.phases == tuple(TrainingPhase(p.epochs / 2, p.categories) for p in plain.phases)
    assert chosen.seed == plain.seed + 10


def test_shipped_recipes_span_one_to_ten_percent() -> None:
    shares = [recipe.multiply_adds() / 134_515_008 for recipe in SMOLLM2]
    assert shares == sorted(shares, reverse=True)
    assert 0.005 < shares[-1] < 0.012
    assert 0.08 < shares[0] < 0.10
    assert all(big > 1.3 * small for big, small in pairwise(shares))


def test_ladder_for_another_target(target: TargetModel) -> None:
    ladder_recipes = ladder(target)
    vocab_size, width = input_embedding(target.model).shape
    assert ladder_recipes[0].hidden_size == width
    assert ladder_recipes[0].target_layers == (0, 1)
    assert len({recipe.name for recipe in ladder_recipes}) == len(ladder_recipes)
    assert all(recipe.draft_vocab_size <= vocab_size for recipe in ladder_recipes)
    assert [recipe.source_drafter for recipe in ladder_recipes] == ["", *[ladder_recipes[0].name] * 3, ""]
