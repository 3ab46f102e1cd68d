"""The answer's page: what is the same is said once, and numbers read as what they are."""

from dataclasses import replace
from pathlib import Path

import pytest

from spinbench.report.answer.answer import Answer, CaseRow, FinalistRow, MemoryRow, RungRow
from spinbench.report.answer.cells import megabytes_text, number_text
from spinbench.report.answer.gain import Gain
from spinbench.report.answer.page import answer_sentences, write_page

NO_ROOM = "UserError: request '{}' needs {} KV blocks, there are 9"


def case(axis: str, value: str, **of: object) -> CaseRow:
    served = {"metric": "output_throughput", "best": "b", "num_set_ups": 3, "num_failed": 0, "failure": None, "ratio": 1.2,
              "acceptance_length": 1.5}  # fmt: skip
    return CaseRow(axis, value, **{**served, **of})


def memory(called: str, drafter_bytes: int) -> MemoryRow:
    return MemoryRow(called, 1, 1200, 16, 2_000_000, drafter_bytes, 13_476_000_000, drafter_bytes, ())


ANSWER = Answer(
    command="spinbench replay experiment=recommended", made_by="spinbench recommend", experiment="conf/recommended.yaml",
    chosen="a", best_simulated="a", plain="plain", single="a", objective="output_throughput", unit="output tokens/s",
    value=12345.6, over_plain=Gain(1.3, 1.1, 1.5), over_single=Gain(1.0, 1.0, 1.0), error_source=None, target="t",
    trace="trace", num_requests=4, arrivals="all_at_once", slo=None, device="d", profile_kind="measured",
    dtype="float32", acceptance="table", memory=(memory("recommended", 400_000), memory("plain", 0),
    memory("best single", 400_000)), finalists=(FinalistRow("a", "single", 2.0, None, None, None, 1.5),), cases=(),
    measured=(), repeats=3, order_held=None, not_confirmed="not asked for", rungs=(RungRow(4, 3, 2, "a"),),
    failed=(("c", NO_ROOM.format("x", 10)), ("d", NO_ROOM.format("y", 12)), ("e", "UserError: other")), warnings=(),
)  # fmt: skip


def page(tmp_path: Path, answer: Answer) -> list[str]:
    return write_page(tmp_path, answer, [{"set_up": "a"}]).read_text().splitlines()


def test_a_terminal_says_what_to_run_and_what_it_gains() -> None:
    assert answer_sentences(ANSWER) == [
        "run a",
        "  1.30x plain decoding in simulation, between 1.10x and 1.50x.",
        "  It is the best single drafter with a fixed K: nothing else that was tried is better.",
    ]


def test_what_fails_for_one_reason_is_one_line(tmp_path: Path) -> None:
    def none(value: str, request: str) -> CaseRow:
        why = NO_ROOM.format(request, 10)
        return case("category", value, best=None, num_failed=3, failure=why, ratio=None, acceptance_length=None)

    cases = (
        none("code", "x"), none("maths", "y"), case("batch", "1"), none("prose", "z"),
        case("batch", "2", num_failed=1, failure="UserError: other", ratio=None, acceptance_length=None),
        case("load", "3", num_failed=1, failure="UserError: other"),
    )  # fmt: skip
    lines = page(tmp_path, replace(ANSWER, cases=cases))
    why = NO_ROOM.format("x", 10)
    assert [line for line in lines if "be served" in line] == [
        f"- category code, maths, prose: none can be served: {why}",
        "- batch 2: the recommended one cannot be served: UserError: other",
        "- load 3: 1 of 3 cannot be served: UserError: other",
        f"- could not be served (2 of them): {why}: `c`, `d`",
        "- could not be served (1 of them): UserError: other: `e`",
    ]
    table = [line for line in lines if "output_throughput |" in line]
    assert [line.split("|")[1].strip() for line in table] == ["batch 1", "batch 2", "load 3"]


@pytest.mark.parametrize(
    ("best", "ratio", "said"),
    [("a", 1.0, "the recommended one"), ("b", 1.004, "the recommended one, b as good"), ("b", 1.006, "**b**")],
)
def test_a_ratio_that_shows_as_1_changes_nothing(tmp_path: Path, best: str, ratio: float, said: str) -> None:
    lines = page(tmp_path, replace(ANSWER, cases=(case("batch", "1", best=best, ratio=ratio),)))
    (row,) = [line for line in lines if line.startswith("| batch 1")]
    assert row.split("|")[5].strip() == said


def test_a_set_up_that_is_its_own_baseline_is_told_once(tmp_path: Path) -> None:
    lines = page(tmp_path, ANSWER)
    assert lines[0] == "# Run `a`"
    assert "- It is the best single drafter with a fixed K: nothing else that was tried is better." in lines
    assert [line for line in lines if line.startswith("| recommended, best single")]
    assert not [line for line in lines if line.startswith("| best single")]
    assert "1.00x (1.00x to 1.00x)" not in "\n".join(lines)


def test_both_pages_say_the_same(tmp_path: Path) -> None:
    lines = page(tmp_path, ANSWER)
    html = (tmp_path / "answer.html").read_text()
    assert "<h1>Run <code>a</code></h1>" in html
    assert "<title>Run a</title>" in html
    for text in ("12,346 output tokens/s", "1.30x (1.10x to 1.50x)", "13,476", "Not confirmed: not asked for."):
        assert text in "\n".join(lines)
        assert text in html


def test_numbers_keep_their_digits() -> None:
    assert [*map(number_text, (0.81234, 186.23, 12345.6, float("nan")))] == ["0.8123", "186.2", "12,346", "–"]
    assert [*map(megabytes_text, (0, 400_000, 9_960_000, 12_400_000, 13_476_000_000))] == [
        "0", "0.4", "10.0", "12", "13,476"
    ]  # fmt: skip
