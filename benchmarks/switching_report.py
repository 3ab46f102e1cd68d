"""The page on what preparing KV ahead of a switch is worth."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.switching_set_ups import SWITCHING, SetUp

PAGE = """# Switching drafters without stalls

`switching=ahead` (SPIN, arXiv 2503.15921) has the next drafter of a request catch up while the present one drafts and
the target verifies; `on_demand`, as the request comes to it. With the same choices in both (`round_robin`, a new
drafter every 4 rounds):

{headline}

A stall is the time that the new drafter's catch-ups took between a request's verification and its draft; tokens that go
into a draft's first step (at most 16) are no part of it. What the figures mean:

- On one device (`shared`) the work is moved, not saved: the stall is gone from where it is counted, and is paid in
  front of the verification of the round before. Catch-up jobs take a little more time in all, since some prepare what
  on demand a draft's first step would have taken in. So there `ahead` gains nothing.
- With drafters on devices of their own and one round in flight, what overlaps is gained.
- With several micro-batches in flight other requests fill part of the gap anyway, so hiding it gains less.
- Where the repeats' ranges overlap, as on two real cores, throughput shows no gain that could be told from noise; there
  a lane for drafters takes a core from the target as well, and costs more than it hides.
- Throughput cannot gain more than the share of the time that catch-up jobs took; a selector that seldom changes its
  mind has little to gain.
- A selector that learns decides a round earlier with `ahead`, on less evidence: its choices, and so its acceptance
  length, are not the same. `joint` announces nothing: the model that a request was last drafted by is kept ready, which
  is a guess; a change to a model that the request never had is not foreseen.

```sh
python -m benchmarks.switching --out reports/switching
```

{parts}"""


def page_table(table: pd.DataFrame) -> pd.DataFrame:
    """Columns as they are read."""
    pairs = table.groupby(["selector", "lanes"], sort=False)["tokens_per_s"]
    return pd.DataFrame(
        {
            "selector": table["selector"],
            "lanes": table["lanes"],
            "switching": table["switching"],
            "tokens/s (min..max)": [
                f"{row.tokens_per_s:.1f} ({row.tokens_per_s_min:.1f}..{row.tokens_per_s_max:.1f})"
                for row in table.itertuples()
            ],
            "over on demand": (table["tokens_per_s"] / pairs.transform("first")).map("{:.3f}x".format),
            "switches a run": table["switches"].map("{:.0f}".format),
            "of them stalled": table["stalled_share"].map("{:.0%}".format),
            "mean stall (ms)": table["mean_stall_ms"].map("{:.2f}".format),
            "p99 stall (ms)": table["p99_stall_ms"].map("{:.1f}".format),
            "catch-up jobs (s of s)": [f"{row.catch_up_s:.2f} of {row.duration_s:.1f}" for row in table.itertuples()],
            "acceptance length": table["acceptance_length"].map("{:.2f}".format),
        }
    )


def headline(tables: dict[str, pd.DataFrame]) -> str:
    """What `round_robin`, which decides the same with and without, says of each set-up."""
    lines = []
    for key, table in tables.items():
        for lanes, pair in table[table["selector"] == "round_robin"].groupby("lanes", sort=False):
            before, after = (pair[pair["switching"] == switching].iloc[0] for switching in SWITCHING)
            lines.append(
                f"- {key}, {lanes}: mean stall {before['mean_stall_ms']:.2f} -> {after['mean_stall_ms']:.2f} ms, p99 "
                f"{before['p99_stall_ms']:.1f} -> {after['p99_stall_ms']:.1f} ms, throughput "
                f"{after['tokens_per_s'] / before['tokens_per_s']:.3f}x"
            )
    return "\n".join(lines)


def write_page(out: Path, all_set_ups: Sequence[SetUp]) -> None:
    """README.md from the CSVs in the folder."""
    known = [(one, out / f"{one.key}.csv") for one in all_set_ups]
    tables = {one.key: pd.read_csv(path) for one, path in known if path.exists()}
    parts = []
    for one in all_set_ups:
        if one.key in tables:
            text = page_table(tables[one.key]).to_markdown(index=False, disable_numparse=True)
            parts.append(f"## {one.title}\n\n`{one.key}`, medians over {one.repeats} repeats.\n\n{text}\n")
    page = PAGE.format(headline=headline(tables), parts="\n".join(parts))
    (out / "README.md").write_text(page, encoding="utf-8")
