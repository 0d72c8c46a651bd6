import pytest

from gateway.answers import RefusalError
from gateway.paging import limit_of


@pytest.mark.parametrize(("given", "limit"), [(None, 20), ("1", 1), ("100", 100), ("007", 7)])
def test_a_limit(given: str | None, limit: int) -> None:
    assert limit_of(given, 20, 100) == limit


@pytest.mark.parametrize("given", ["", "0", "101", "-1", "1.0", "many", "\u0661", "0000000011000000", "9" * 5000])
def test_what_is_no_limit_is_refused(given: str) -> None:
    with pytest.raises(RefusalError) as refused:
        limit_of(given, 20, 100)
    assert (refused.value.refusal.status, refused.value.refusal.param) == (400, "limit")
