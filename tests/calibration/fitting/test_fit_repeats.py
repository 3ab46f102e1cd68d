"""A fit has the same digits in every process, so that workers of a sweep agree on every simulated time."""

import os
import subprocess
import sys
from pathlib import Path

from spinbench.cli.locations import PACKAGE
from tests.simulation.small_setup import DRAFTERS, write_setup

PROGRAM = f"""
from pathlib import Path
from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.profile.profile_file import read_profile
print(fit_cost_model(read_profile(Path("profile")), {DRAFTERS}))
"""


def test_whatever_the_order_of_sets(tmp_path: Path) -> None:
    write_setup(tmp_path)
    said = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=tmp_path, text=True, capture_output=True, check=True,
            env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1
