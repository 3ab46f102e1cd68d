"""The drafters in the package: complete, of the recipes that we name, and small enough to ship."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from spinbench.models.distill.presets import SMOLLM2
from spinbench.models.distill.recipe import DrafterRecipe
from spinbench.models.packed_drafter import PACKAGED_FOLDER, packaged_drafters, read_description

VOCAB_SIZE, EOS = 49152, 2


def test_the_five_are_there_and_nothing_else() -> None:
    assert packaged_drafters() == tuple(sorted(recipe.name for recipe in SMOLLM2))


def test_all_weights_fit_24_megabytes() -> None:
    assert sum(path.stat().st_size for path in PACKAGED_FOLDER.rglob("*.safetensors")) <= 24_000_000


@pytest.mark.parametrize("recipe", SMOLLM2, ids=lambda recipe: recipe.name)
def test_description_weights_and_card_fit_the_recipe(recipe: DrafterRecipe) -> None:
    folder: Path = PACKAGED_FOLDER / recipe.name
    description = read_description(folder)
    assert description.name == recipe.name
    assert json.loads((folder / "drafter.json").read_text())["config"] == recipe.llama_config(VOCAB_SIZE)
    assert description.draft_vocab_size == recipe.draft_vocab_size
    assert description.projected == recipe.projected(576)
    with safe_open(folder / "weights.safetensors", framework="numpy") as weights:
        target_ids = weights.get_tensor("target_ids").tolist()
    assert len(target_ids) == recipe.draft_vocab_size
    assert target_ids == sorted(set(target_ids))
    assert EOS in target_ids
    card = (folder / "card.md").read_text()
    assert card.startswith(f"# {recipe.name}\n")
    assert f"{recipe.multiply_adds() / 1e6:.2f} M" in card
    for heading in ("## Cost", "## Training", "## Scores on", "## The curve's end"):
        assert heading in card
