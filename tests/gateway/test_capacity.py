from gateway.capacity import Capacity
from tests.factories.routing import Time


def test_an_unmeasured_student_takes_everything() -> None:
    capacity = Capacity(1, Time(0))
    assert all(capacity.take("s", None) for _ in range(1000))


def test_capacity_is_a_rate_with_two_seconds_of_burst() -> None:
    clock = Time(0)
    capacity = Capacity(1, clock)
    assert sum(capacity.take("s", 5.0) for _ in range(100)) == 10
    clock.now += 1
    assert sum(capacity.take("s", 5.0) for _ in range(100)) == 5


def test_processes_share_it_and_a_slow_student_still_gets_one() -> None:
    clock = Time(0)
    capacities = [Capacity(4, clock) for _ in range(4)]
    assert [capacity.take("s", 0.4) for capacity in capacities] == [True] * 4
    clock.now += 5
    assert [capacity.take("s", 0.4) for capacity in capacities] == [False] * 4
    clock.now += 5
    assert [capacity.take("s", 0.4) for capacity in capacities] == [True] * 4


def test_a_new_measurement_counts_at_once() -> None:
    capacity = Capacity(1, Time(0))
    assert sum(capacity.take("s", 1.0) for _ in range(10)) == 2
    assert sum(capacity.take("s", 3.0) for _ in range(10)) == 6
