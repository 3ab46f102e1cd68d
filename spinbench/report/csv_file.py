"""Tables beside a page, as CSV."""

from pathlib import Path

import pandas as pd

from spinbench.text_file import write_text


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Leave `table` in `path`, numbers to six digits, the same bytes for the same numbers. Raises UserError."""
    write_text(path, table.to_csv(index=False, float_format="%.6g"))
