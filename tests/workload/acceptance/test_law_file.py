from pathlib import Path

import numpy as np
import pytest

from spinbench.errors import UserError
from spinbench.workload.acceptance.law_file import read_law
from spinbench.workload.acceptance.synthetic import DifficultyClass, LookupLaw, SyntheticLaw
from spinbench.workload.acceptance.walk import WalkedRounds
from spinbench.workload.speculation_profile import speculation_profile, write_speculation_profile

LAW = """
coupling: 0.25
classes:
  - name: code
    weight: 2
    acceptance_rates: {small: [0.8, 0.5], large: [0.9]}
    lookup: {match_probability: [0.1, 0.2, 0.3], acceptance_rates: [0.2, 0.5, 0.9]}
  - name: chat
    acceptance_rates: {small: [0.3], large: profiles/speculation_profile.json}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rounds = WalkedRounds(np.zeros(4, np.int64), np.array([0, 1, 2, 2]))
    profile = speculation_profile(
        rounds, [None], 2, method="draft_model", draft_checkpoint={}, target_model={}, measurement_conditions={}
    )
    write_speculation_profile(tmp_path / "profiles" / "speculation_profile.json", profile)
    return tmp_path / "law.yaml"


def test_rates_are_written_out_or_measured(path):
    path.write_text(LAW)
    lookup = LookupLaw((0.1, 0.2, 0.3), (0.2, 0.5, 0.9))
    code = DifficultyClass("code", 2.0, {"small": (0.8, 0.5), "large": (0.9,)}, lookup)
    # of four rounds three kept a token, and two of those a second one: the conditional rates
    chat = DifficultyClass("chat", 1.0, {"small": (0.3,), "large": (0.75, 0.666667)})
    assert read_law(path) == SyntheticLaw((code, chat), 0.25)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("coupling: 0.25", "coupling: 2", "law.yaml: coupling: input should be less than or equal to 1"),
        ("coupling", "coupled", "law.yaml: coupled: extra inputs are not permitted"),
        ("[0.8, 0.5]", "[0.8, .nan]", "law.yaml: classes.0.acceptance_rates.small"),
        ("[0.3]", "[]", "law.yaml: classes.1.acceptance_rates.small"),
        ("[0.1, 0.2, 0.3]", "[0.1, 0.2]", "law.yaml: classes.0.lookup.match_probability: list should have at least 3"),
        ("[0.1, 0.2, 0.3]", "[0.5, 0.5, 0.5]", "law.yaml: lookup.match_probability adds up to 1.5"),
        ("profiles/", "elsewhere/", "elsewhere/speculation_profile.json: no such file"),
        ("classes:", "classes: [", "law.yaml: not valid YAML"),
        (LAW, "", "law.yaml: the file: input should be a valid dictionary"),
    ],
)
def test_a_wrong_law_is_refused_in_one_line(path, old, new, message):
    path.write_text(LAW.replace(old, new))
    with pytest.raises(UserError) as caught:
        read_law(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_law_that_is_not_there(path):
    with pytest.raises(UserError, match=r"law\.yaml: no such file"):
        read_law(path)
