import numpy as np
import pytest
import torch
from scipy import stats

from spinbench.errors import UserError
from spinbench.runtime.sampling.noise import gumbel_noise
from spinbench.runtime.sampling.sampler import Sampler, Sampling

DRAWS = 20_000


def _frequencies(sampling: Sampling, logits: torch.Tensor) -> np.ndarray:
    tokens = Sampler(sampling).target_tokens(logits.expand(DRAWS, -1), np.full(DRAWS, 11), np.arange(DRAWS))
    return np.bincount(tokens.numpy(), minlength=logits.shape[-1])


def _law(logits: torch.Tensor, temperature: float, keep: list[int]) -> np.ndarray:
    """softmax(logits / temperature) renormalised over the kept tokens, in float64."""
    probability = np.zeros(len(logits))
    kept = np.array(keep)
    probability[kept] = torch.softmax(logits[kept].double() / temperature, 0).numpy()
    return probability


LOGITS = torch.tensor([2.0, 1.5, 0.3, -0.2, 1.0, -1.0, 0.0])  # by rank: 0, 1, 4, 2, 6, 3, 5


@pytest.mark.parametrize(
    ("sampling", "keep"),
    [
        (Sampling(temperature=1.0), [0, 1, 2, 3, 4, 5, 6]),
        (Sampling(temperature=0.5), [0, 1, 2, 3, 4, 5, 6]),
        (Sampling(temperature=2.0, top_k=3), [0, 1, 4]),
        (Sampling(temperature=1.0, top_p=0.6), [0, 1]),  # 0.44, 0.27: 0.44 < 0.6 <= 0.71
        (Sampling(temperature=1.0, top_p=0.75, top_k=5), [0, 1, 4]),  # of five: 0.47, 0.28 reach 0.749 < 0.75
    ],
)
def test_law_of_the_target(sampling, keep):
    expected = _law(LOGITS, sampling.temperature, keep)
    counts = _frequencies(sampling, LOGITS)
    assert set(np.flatnonzero(counts)) == set(keep)
    kept = np.array(keep)
    assert stats.chisquare(counts[kept], DRAWS * expected[kept]).pvalue > 1e-3


def test_greedy_takes_the_maximum_whatever_the_seed():
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert Sampler(Sampling()).target_tokens(logits, np.arange(6), np.arange(6)).tolist() == logits.argmax(-1).tolist()


def test_noise_is_a_function_of_seed_position_and_token():
    ids = torch.arange(1000)
    whole = gumbel_noise(np.array([5, 5, 6]), np.array([0, 1, 0]), ids)
    assert torch.equal(gumbel_noise(np.array([6, 5]), np.array([0, 1]), ids[[7, 900]]), whole[[2, 1]][:, [7, 900]])
    assert len({tuple(row.tolist()) for row in whole}) == 3


def test_noise_follows_the_gumbel_law_and_is_not_correlated():
    noise = gumbel_noise(np.array([1, 1, 2]), np.array([0, 1, 0]), torch.arange(49_152)).double().numpy()
    for row in noise:
        assert stats.kstest(row, stats.gumbel_r.cdf).pvalue > 1e-3
    correlation = np.corrcoef(np.concatenate((noise, noise[:, ::-1][:1], np.roll(noise[:1], 1))))
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / np.sqrt(49_152)
    assert np.isfinite(noise).all()


def test_an_exact_drafter_draws_the_targets_tokens():
    logits = torch.randn(400, 60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sampler = Sampler(Sampling(temperature=1.3))
    seeds, positions = np.full(400, 3), np.arange(400)
    target = sampler.target_tokens(logits, seeds, positions)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    assert torch.equal(sampler.draft_tokens(logits, seeds, positions, None), target)
    assert torch.equal(sampler.draft_tokens(logits[:, order], seeds, positions, order), target)


def test_shared_noise_makes_a_near_drafter_agree_more_than_chance():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4000, 30, generator=generator)
    near = logits + 0.3 * torch.randn(4000, 30, generator=generator)
    sampler = Sampler(Sampling(temperature=1.0))
    target = sampler.target_tokens(logits, np.full(4000, 1), np.arange(4000))
    coupled = (sampler.draft_tokens(near, np.full(4000, 1), np.arange(4000), None) == target).float().mean()
    apart = (sampler.draft_tokens(near, np.full(4000, 2), np.arange(4000), None) == target).float().mean()
    assert coupled > 0.6
    assert apart < 0.2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 2.0),
        ("top_k", -1),
    ],
)
def test_bad_settings_name_the_key(key, value):
    with pytest.raises(UserError, match=f"sampling.{key} is {value}"):
        Sampling(**{key: value})
