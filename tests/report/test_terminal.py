import io
from pathlib import Path

from rich.console import Console

from spinbench.report.section import load_sections
from spinbench.report.terminal import print_table


def test_the_table_fits_and_says_who_is_fastest(runs: Path) -> None:
    out = io.StringIO()
    print_table(load_sections([runs]), Console(file=out, width=110))
    text = out.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 110
    assert "…" not in text
    rows = [line for line in text.splitlines() if line.strip().startswith("fixed smollm2-d256-code  ")]
    assert len(rows) == 2  # batch 1 and batch 4
    assert "1.00x" in text
    assert "Lossless: all 384 outputs equal" in text.replace("\n", " ")
