import pytest

from spinbench.control.record import RunRecord

from .records import two_request_record


@pytest.fixture
def record() -> RunRecord:
    return two_request_record()
