import numpy as np

from spinbench.control.drafting.draft_source import DraftSources
from spinbench.control.drafting.drafter import DrafterInfo

BOTH = DrafterInfo("a+prompt_lookup", "lookup_then_model", min_match_tokens=2)
DRAFTERS = (BOTH, DrafterInfo("a", "model"), DrafterInfo("b", "model"), DrafterInfo("prompt_lookup", "prompt_lookup"))


def test_models_once_and_copies_last():
    sources = DraftSources.of(DRAFTERS)
    assert (len(sources), sources.num_models, sources.copies) == (3, 2, True)
    assert sources.by_source == ((1, 0), (2,), (3, 0))
    assert sources.source_of_drafter.tolist() == [0, 0, 1, -1]


def test_the_drafter_of_a_source_by_matched_tokens():
    assert DraftSources.of(DRAFTERS).drafter_table.tolist() == [[1, 2, -1], [1, 2, 3], [1, 2, 3], [1, 2, 3]]
    # alone, the drafter that does both asks its model below two tokens and copies from there on
    assert DraftSources.of([BOTH]).drafter_table.tolist() == [[0, -1], [0, -1], [-1, 0], [-1, 0]]


def test_what_a_drafter_drafts_from():
    sources = DraftSources.of(DRAFTERS)
    found = sources.of_drafters(np.array([0, 0, 1, 3, 3, -1]), np.array([1, 2, 3, 0, 1, 3]))
    assert found.tolist() == [0, 2, 0, -1, 2, -1]


def test_shorter_n_grams_are_looked_up_by():
    short = DrafterInfo("prompt_lookup", "prompt_lookup", max_match_tokens=2, min_match_tokens=2)
    sources = DraftSources.of([short, DrafterInfo("a", "model")])
    assert sources.max_match_tokens == 2
    assert sources.drafter_table.tolist() == [[1, -1], [1, -1], [1, 0], [1, 0]]


def test_without_drafters():
    sources = DraftSources.of([])
    assert (len(sources), sources.copies, sources.drafter_table.shape) == (0, False, (4, 0))
