import pytest

from spinbench.control.records.run_record import RunRecord

from .records import two_request_record


@pytest.fixture
def record() -> RunRecord:
    return two_request_record()
