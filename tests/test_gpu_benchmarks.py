"""What is to be run on a GPU runs in miniature without one: kernels interpreted, graphs uncaptured."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

pytest.importorskip("triton")
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.summary import Part, figures


def test_kernels_graphs_and_models_in_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["--miniature", "--out", str(tmp_path), "--parts", "kernels,bandwidth,layouts,steps,drafts,waits,overlap"])
        == 0
    )
    assert capsys.readouterr().out.count(": measured") == 7
    kernels = pd.read_csv(tmp_path / "kernels.csv")
    assert kernels["right"].all()
    assert set(kernels["case"]) == {"whole contexts", "draft step", "verification", "pieces", "tree"}
    assert set(kernels["dtype"]) == {"float32", "bfloat16"}
    layouts = pd.read_csv(tmp_path / "layouts.csv")
    assert {"packed", "padded", "grouped", "decomposed"} == set(layouts["layout"])
    assert list(pd.read_csv(tmp_path / "steps.csv")["rows_per_request"]) == [1, 5, 1, 5]
    meta = yaml.safe_load((tmp_path / "meta.yaml").read_text())
    assert meta["miniature"]
    assert meta["copy_bytes_per_s"] > 0
    page = (tmp_path / "summary.md").read_text()
    assert "no GPU: times mean nothing" in page
    assert "*Not measured*: not asked for" in page
    assert "plain step at batch 1, times the memory's limit" in page


def test_figures_are_read_off_the_tables() -> None:
    table = pd.DataFrame(
        {
            "batch": [1, 1], "rows_per_request": [1, 5], "device_ms": [2.0, 2.5], "times_the_limit": [1.1, 1.3],
            "host_share": [0.04, 0.03],
        }
    )  # fmt: skip
    assert figures([Part("steps", table, None, 1.0), Part("drafts", None, "no time", 0.0)]) == {
        "plain step at batch 1, times the memory's limit": 1.1,
        "verify of 5 tokens, times a plain step, batch 1": 1.25,
        "host share of a plain step, batch 1": 0.04,
    }


def test_without_a_gpu_only_the_miniature_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "torch finds no CUDA GPU here; --miniature" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--miniature", "--parts", "kernel"])
    assert "--parts has 'kernel'; parts are kernels, bandwidth" in capsys.readouterr().err


@pytest.mark.parametrize(
    "kernel",
    [
        "store_kv,bf16,128",
        pytest.param("merge,bf16,128", marks=pytest.mark.full_matrix),
        *(pytest.param(f"attend,{dtype},64", marks=pytest.mark.full_matrix) for dtype in ("fp16", "bf16", "fp32")),
    ],
)
def test_kernels_compile_for_gpus_that_are_not_here(tmp_path: Path, kernel: str) -> None:
    out = tmp_path / "kernels.csv"
    compiling = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.gpu.compile_kernels", "--out", str(out), "--only", kernel]
    done = subprocess.run(command, env=compiling, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    usage = pd.read_csv(out)
    assert set(usage["target"]) == {"sm_80", "sm_90"}
    assert (usage["stack_bytes"] == 0).all()
    assert (usage["registers"] > 8).all()


@pytest.mark.full_matrix
def test_runs_through_the_command_line_in_miniature(tmp_path: Path) -> None:
    assert main(["--miniature", "--out", str(tmp_path), "--parts", "losslessness,serving,validation"]) == 0
    lossless = pd.read_csv(tmp_path / "losslessness.csv")
    assert (lossless["equal"] == lossless["answers"]).all()
