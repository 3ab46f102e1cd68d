"""A clock whose times are the device's: nobody waits for a job's end before its result or its time is needed."""

import time
from collections.abc import Callable

import pytest

from spinbench.control.records.run_record import RunRecord
from spinbench.runtime.lanes.device_clock import EventClock
from tests.runtime import serving, tiny_models

TRACE = serving.requests(4, max_new_tokens=8)


class Notes:
    """Makes events of the host's own time, and notes which of them was waited for when there were how many."""

    def __init__(self) -> None:
        self.waits: list[tuple[int, int]] = []
        self.made = 0

    def event(self) -> "HostEvent":
        self.made += 1
        return HostEvent(self.made - 1, lambda number: self.waits.append((number, self.made)))


class HostEvent:
    def __init__(self, number: int, note: Callable[[int], None]) -> None:
        self._number, self._note = number, note
        self.at_s = 0.0

    def record(self) -> None:
        self.at_s = time.perf_counter()

    def synchronize(self) -> None:
        self._note(self._number)

    def elapsed_time(self, later: "HostEvent") -> float:
        return 1e3 * (later.at_s - self.at_s)


def served(notes: Notes, **decisions: object) -> RunRecord:
    target = tiny_models.target()
    clock = EventClock(notes.event)
    return serving.serve(target, tiny_models.drafters(target), TRACE, clock=clock, **decisions)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "decisions",
    [
        {"selector": "fixed good"},
        {"selector": "epsilon_greedy", "layout": "decomposed"},
        {"selector": "merged good,poor", "draft_length": 2},
    ],
)
def test_a_round_waits_once(decisions: dict[str, object]):
    """No draft is waited for before its verification has ended, and every time is read once."""
    notes = Notes()
    record = served(notes, **decisions)
    kinds = record.spans.kind
    # events are a start and an end for each job, in order, behind those that the clock began with
    first = notes.made - 2 * len(kinds)
    read = [(number - first, made - first) for number, made in notes.waits if number >= first]
    assert sorted(number for number, _ in read) == list(range(2 * len(kinds)))
    for number, made in read:
        job = number // 2
        if kinds[job] in ("draft", "catch_up"):
            verify = next(later for later in range(job, len(kinds)) if kinds[later] == "verify")
            # a draft's with its verification; a catch-up's, which nobody decides by, when the record is made
            assert made == 2 * (verify + 1) if kinds[job] == "draft" else made >= 2 * (verify + 1)
    assert "draft" in kinds
    assert serving.outputs(record) == serving.outputs(served(Notes(), **decisions))


def test_times_are_as_on_the_host():
    notes = Notes()
    record = served(notes, selector="round_robin")
    spans = record.spans
    assert (spans.start_s[1:] >= spans.end_s[:-1] - 1e-6).all()
    assert (spans.end_s > spans.start_s).all()
    assert spans.start_s[0] >= 0
    assert spans.end_s[-1] <= record.end_s + 1e-6
    drafts = [
        end - start for kind, start, end in zip(spans.kind, spans.start_s, spans.end_s, strict=True) if kind == "draft"
    ]
    assert sorted({round(value, 9) for value in drafts}) == sorted(
        {
            round(value, 9)
            for value in (record.rounds.draft_end_s - record.rounds.draft_start_s).tolist()
            if value == value
        }
    )


def test_long_runs_get_a_new_anchor(monkeypatch: pytest.MonkeyPatch):
    notes = Notes()
    clock = EventClock(notes.event)
    clock.restart()
    old = clock._anchor
    mark = clock.mark()
    monkeypatch.setattr("spinbench.runtime.lanes.device_clock.ANCHOR_AGE_S", 0.0)
    time.sleep(0.002)
    end = clock.mark()
    times = clock.between(mark, end)
    assert 0.002 <= times.end_s - times.start_s < 1.0
    assert clock._anchor is not old
    assert (times.start_s, times.end_s) == (times.start_s, times.end_s)
