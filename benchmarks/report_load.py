"""How long the HTML report of many points takes to make, and to load in headless Chromium.

python -m benchmarks.report_load --sweep SWEEP --out reports/html

SWEEP is the folder of a sweep (`spinbench replay -m ... hydra.sweep.dir=SWEEP`). The page is opened in a new browser
for each of `--repeats`, at 1280 and 390 pixels, from a file; `load_s` is from navigation to the load event.
"""

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks.browser import Browser, find_chromium
from benchmarks.entry import run_main
from spinbench.report.page import HTML_FILE, write_report

WIDTHS = (1280, 390)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of report_load.csv")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    program = find_chromium()
    if program is None:
        raise SystemExit("no chromium here (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        begun_s = time.perf_counter()
        page = write_report([options.sweep], Path(folder)).with_name(HTML_FILE)
        made_s = time.perf_counter() - begun_s
        points = len(pd.read_csv(page.parent / "tables" / "runs.csv"))
        rows = []
        for repeat in range(options.repeats):
            for width in WIDTHS:
                with Browser(program) as browser:
                    opened = browser.open(page, width, "light")
                row = {"points": points, "page_kb": page.stat().st_size // 1000, "made_s": made_s, "width": width}
                rows.append({**row, "repeat": repeat, "load_s": opened.load_s, "errors": len(opened.errors)})
    table = pd.DataFrame(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "report_load.csv", index=False, float_format="%.4g")
    print(table.to_string(index=False))


if __name__ == "__main__":
    run_main(main)
