import pytest

from spinbench.errors import UserError
from spinbench.workload.acceptance.table_meta import DrafterMeta, SamplingMeta
from tests.workload.acceptance.made_table import GREEDY, TARGET_SHA256, TRACE_SHA256, columns, made_table

RANKS = {"good": [[0, 0, 3], [0, 1]], "poor": [[4, 0, 0], [0, 255]]}


def test_a_table_fits_what_it_was_recorded_for():
    made_table(RANKS).check_matches(
        target_sha256=TARGET_SHA256,
        trace_sha256=TRACE_SHA256,
        sampling=GREEDY,
        drafters={"good": "0" * 64, "poor+prompt_lookup": "1" * 64, "prompt_lookup": None, "poor": None},
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"target_sha256": "c" * 64}, "recorded with target 'target' of weights aaaaaaaaaaaa, not cccccccccccc"),
        ({"trace_sha256": "c" * 64}, "recorded on trace 'trace' of digest bbbbbbbbbbbb, not cccccccccccc"),
        (
            {"sampling": SamplingMeta(temperature=0.5, top_p=1.0, top_k=0)},
            "sampling greedy, not temperature 0.5, top_p 1, top_k 0",
        ),
        ({"drafters": {"better": None}}, "drafter 'better' is not recorded in it; recorded are good, poor"),
        ({"drafters": {"better+prompt_lookup": None}}, "drafter 'better\\+prompt_lookup' is not recorded"),
        (
            {"drafters": {"good+prompt_lookup": "9" * 64}},
            "drafter 'good' was recorded with weights 000000000000, not 999",
        ),
    ],
)
def test_another_origin_is_told_in_one_line(other, message):
    with pytest.raises(UserError, match=message) as caught:
        made_table(RANKS).check_matches(**other)
    assert "\n" not in str(caught.value)


def test_at_temperature_0_the_cuts_do_not_matter():
    made_table(RANKS).check_matches(sampling=SamplingMeta(temperature=0.0, top_p=0.5, top_k=3))


def test_a_drafter_is_added_once():
    table = made_table(RANKS)
    third = DrafterMeta(name="third", sha256="9" * 64, macs_per_token=1)
    more = table.with_drafter(third, columns([0, 1, 2, 3, 4]))
    assert list(more.columns) == ["good", "poor", "third"]
    assert more.meta.drafters[-1] == third
    with pytest.raises(UserError, match="drafter 'third' is in it already"):
        more.with_drafter(third, columns([0] * 5))
