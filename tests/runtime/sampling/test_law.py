import numpy as np
import pytest
import torch

from spinbench.runtime.sampling.law import RowSampling, Sampling, draw, law_of

LOGITS = torch.tensor([2.0, 1.5, 0.3, -0.2, 1.0, -1.0, 0.0], dtype=torch.float64)  # by rank: 0, 1, 4, 2, 6, 3, 5


def test_rows_with_different_settings_are_as_if_alone():
    settings = [
        Sampling(1.0), Sampling(0.5, top_k=3), Sampling(2.0, top_p=0.7), Sampling(0.0), Sampling(1.0, 0.6, 100),
    ]  # fmt: skip
    mixed = RowSampling(
        np.array([s.temperature for s in settings]),
        np.array([s.top_p for s in settings]),
        np.array([s.top_k for s in settings]),
    )
    together = law_of(LOGITS.expand(len(settings), -1), mixed)
    for row, sampling in enumerate(settings):
        alone = law_of(LOGITS[None], RowSampling.alike(1, sampling))[0]
        torch.testing.assert_close(together[row], alone, rtol=0, atol=0)
    assert [int((row > 0).sum()) for row in together] == [7, 3, 4, 1, 2]
    torch.testing.assert_close(together.sum(-1), torch.ones(len(settings), dtype=torch.float64))


def test_greedy_is_the_first_of_equal_maxima():
    law = law_of(torch.tensor([[1.0, 3.0, 3.0]]), RowSampling.alike(1, Sampling()))
    assert law.tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 1), (0.2499, 1), (0.25, 3), (0.7499, 3), (0.75, 4), (1 - 2**-53, 4)]
)
def test_a_draw_inverts_the_distribution_function(uniform, token):
    weights = torch.tensor([[0.0, 1.0, 0.0, 2.0, 1.0, 0.0]])  # of 4: 0.25, 0.75, 1
    assert draw(weights, torch.tensor([uniform], dtype=torch.float64)).tolist() == [token]
