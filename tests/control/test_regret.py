"""Share of the oracle and regret, by hand."""

import numpy as np
import pytest

from spinbench.control.regret import Regret, decode_time_s
from tests.simulation.simulated import StatedTimes, bernoulli, requests, simulate


def test_regret_by_hand():
    # 2 and 4 seconds of 3 and 5: shares 2/3 and 4/5; 6 tokens in 2 s make 3 more in the third second
    regret = Regret(np.array([3.0, 5.0, 0.0]), np.array([2.0, 4.0, 0.0]), np.array([6, 8, 0]))
    assert regret.share_of_oracle[:2].tolist() == [2 / 3, 4 / 5]
    assert np.isnan(regret.share_of_oracle[2])
    assert regret.regret_s.tolist() == [1.0, 1.0, 0.0]
    assert regret.regret_tokens[:2].tolist() == [3.0, 2.0]
    # 6 s of 8 s for 14 tokens
    assert regret.total.share_of_oracle.tolist() == [0.75]
    assert regret.total.regret_tokens[0] == pytest.approx(14 * 2 / 6)


def test_decoding_time_by_hand():
    # prefill 0 to 3, then a gap of 0.5 before each of 4 rounds of 1 s, the second request in the first of them only
    trace = requests(2, [5, 2])
    record = simulate(trace, bernoulli(trace, {}), StatedTimes(prefill_s=3.0, gap_s=0.5), max_num_seqs=2)
    assert decode_time_s(record).tolist() == [1.5 / 2 + 3 * 1.5, 1.5 / 2]


def test_prefills_of_others_are_not_decoding():
    # the second request arrives while the first decodes, and its prefill lies between two rounds
    trace = requests(2, [4, 3], arrivals_s=[0.0, 3.2])
    record = simulate(trace, bernoulli(trace, {}), StatedTimes(prefill_s=3.0), max_num_seqs=2)
    # 3 rounds of a second for the first, the two last of them with the second
    assert record.spans.kind == ("prefill", "verify", "prefill", "verify", "verify")
    assert decode_time_s(record).tolist() == [2.0, 1.0]
