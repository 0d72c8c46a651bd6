import pytest

from capture.settings import BreakerSettings
from gateway.breaker import WINDOW_S, Breakers, CircuitState
from tests.factories.routing import Time

POLICY = BreakerSettings(failures=3, failure_rate=0.5, minimum=10, cool_down_s=10)


def breakers(clock: Time, policy: BreakerSettings = POLICY) -> Breakers:
    return Breakers({"up": policy}, clock)


def fail(circuits: Breakers, times: int = 3) -> None:
    for _ in range(times):
        circuits.observe("up", False)


def state(circuits: Breakers) -> CircuitState:
    return next(circuit.state for circuit in circuits.circuits() if circuit.name == "up")


def test_failures_in_a_row_open_it_and_one_request_is_tried_after_the_cool_down() -> None:
    clock = Time(100)
    circuits = breakers(clock)
    fail(circuits, 2)
    circuits.observe("up", True)
    fail(circuits, 2)
    assert circuits.take("up")
    fail(circuits, 1)
    assert (circuits.take("up"), circuits.wait_s("up"), state(circuits)) == (False, 10, CircuitState.OPEN)
    clock.now += 9.5
    assert (circuits.take("up"), circuits.wait_s("up")) == (False, 0.5)
    clock.now += 0.5
    assert circuits.wait_s("up") == 0
    assert [circuits.take("up") for _ in range(3)] == [True, False, False]
    assert state(circuits) is CircuitState.HALF_OPEN


def test_a_good_probe_closes_it_and_forgets() -> None:
    clock = Time(100)
    circuits = breakers(clock)
    fail(circuits)
    clock.now += 10
    assert circuits.take("up")
    circuits.observe("up", True)
    assert (circuits.take("up"), state(circuits)) == (True, CircuitState.CLOSED)
    fail(circuits, 2)
    assert circuits.take("up")


def test_a_failed_probe_opens_it_again_for_as_long() -> None:
    clock = Time(100)
    circuits = breakers(clock)
    fail(circuits)
    clock.now += 10
    assert circuits.take("up")
    circuits.observe("up", False)
    assert (circuits.take("up"), circuits.wait_s("up")) == (False, 10)
    assert [circuit.opened for circuit in circuits.circuits()] == [2]


def test_a_probe_that_nobody_hears_of_again_does_not_keep_it_closed_to_all() -> None:
    clock = Time(100)
    circuits = breakers(clock)
    fail(circuits)
    clock.now += 10
    assert circuits.take("up")  # its client leaves: no outcome is observed
    clock.now += 10
    assert circuits.take("up")


def test_what_was_sent_before_it_opened_changes_nothing() -> None:
    circuits = breakers(Time(100))
    fail(circuits)
    circuits.observe("up", True)
    assert state(circuits) is CircuitState.OPEN


@pytest.mark.parametrize(("failed", "is_open"), [(4, False), (5, True)])
def test_too_large_a_part_of_failures_opens_it(failed: int, is_open: bool) -> None:
    circuits = breakers(Time(100), POLICY.model_copy(update={"failures": 100}))
    for _ in range(10 - failed):
        circuits.observe("up", True)
    fail(circuits, failed)
    assert circuits.take("up") is not is_open


def test_old_failures_are_forgotten() -> None:
    clock = Time(100)
    circuits = breakers(clock, POLICY.model_copy(update={"failures": 100}))
    fail(circuits, 9)
    clock.now += 2 * WINDOW_S
    fail(circuits, 1)
    assert circuits.take("up")


def test_it_can_be_turned_off() -> None:
    circuits = breakers(Time(100), POLICY.model_copy(update={"failures": 0}))
    fail(circuits, 1000)
    assert circuits.take("up")


def test_each_name_has_a_circuit_of_its_own() -> None:
    circuits = breakers(Time(100))
    fail(circuits)
    assert circuits.take("other")


def test_what_was_answered_lately_counts_beside_failures() -> None:
    clock = Time(100)
    circuits = breakers(clock, POLICY.model_copy(update={"failures": 100}))
    for _ in range(600):
        clock.now += 0.5
        circuits.observe("up", True)
    for _ in range(10):
        circuits.observe("up", False)
        circuits.observe("up", True)
    assert state(circuits) is CircuitState.CLOSED
