import pytest

from spinbench.errors import UserError
from spinbench.metrics.slo import parse_slo


def test_parses_spaces_and_commas() -> None:
    assert parse_slo("ttft:200 tpot:50.5") == {"ttft": 200.0, "tpot": 50.5}
    assert parse_slo("e2el:1e3,ttft:5") == {"e2el": 1000.0, "ttft": 5.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("ttft", "'ttft': write name:milliseconds"),
        ("itl:5", "ttft, tpot, e2el"),
        ("ttft:fast", "'fast' is not a positive number"),
        ("ttft:-1", "'-1' is not a positive number"),
        ("ttft:nan", "not a positive number"),
        ("ttft:1 ttft:2", "twice"),
    ],
)
def test_refuses_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        parse_slo(text)
    assert "\n" not in str(error.value)
