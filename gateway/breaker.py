"""Circuit breakers: an upstream that fails again and again is left alone for a while, then tried with one request.

Each gateway process judges by what it saw itself. Pure but for the clock that is passed in (monotonic seconds).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from capture.settings import BreakerSettings

WINDOW_S = 30.0
DEFAULT = BreakerSettings()
BROKEN = frozenset({500, 502, 503, 504, 529})
"""Statuses with which an upstream says that it failed itself; any other says that it works."""

_log = structlog.get_logger("stillhouse.gateway")


class CircuitState(StrEnum):
    """Closed: requests flow. Open: none do. Half open: one is under way to find out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class Circuit:
    """One upstream's. `failed` and `answered` are of the window that began at `window_at`, `…_before` of the last."""

    name: str
    policy: BreakerSettings
    state: CircuitState = CircuitState.CLOSED
    in_a_row: int = 0
    failed: int = 0
    answered: int = 0
    failed_before: int = 0
    answered_before: int = 0
    window_at: float = 0.0
    since: float = 0.0  # of an open circuit: when it opened; of a half-open one: when the probe was sent
    opened: int = 0  # how often so far

    def turn(self, now: float) -> None:
        """Begins a new window when this one is over."""
        if now - self.window_at < WINDOW_S:
            return
        fresh = now - self.window_at < 2 * WINDOW_S
        self.failed_before, self.answered_before = (self.failed, self.answered) if fresh else (0, 0)
        self.failed = self.answered = 0
        self.window_at = now

    def is_broken(self) -> bool:
        """Too many failures in a row, or too large a part of the last windows' requests."""
        if self.in_a_row >= self.policy.failures:
            return True
        failed = self.failed + self.failed_before
        total = failed + self.answered + self.answered_before
        return total >= self.policy.minimum and failed / total >= self.policy.failure_rate

    def open(self, now: float) -> None:
        self.state, self.since = CircuitState.OPEN, now
        self.opened += 1

    def close(self) -> None:
        self.state = CircuitState.CLOSED
        self.in_a_row = self.failed = self.answered = self.failed_before = self.answered_before = 0


@dataclass(slots=True)
class Breakers:
    """The circuits of one process, by name: an upstream's, or a student's."""

    policies: Mapping[str, BreakerSettings]
    clock: Callable[[], float]
    _circuits: dict[str, Circuit] = field(default_factory=dict)

    def take(self, name: str) -> bool:
        """Whether a request may be sent there now. Of a half-open circuit it is given once each cool-down."""
        circuit = self._circuits.get(name)
        if circuit is None or circuit.state is CircuitState.CLOSED:
            return True
        now = self.clock()
        if now - circuit.since < circuit.policy.cool_down_s:
            return False
        circuit.state, circuit.since = CircuitState.HALF_OPEN, now
        return True

    def wait_s(self, name: str) -> float:
        """Seconds until a request may be tried there again; 0 when it may now."""
        circuit = self._circuits.get(name)
        if circuit is None or circuit.state is CircuitState.CLOSED:
            return 0.0
        return max(0.0, circuit.policy.cool_down_s - (self.clock() - circuit.since))

    def observe(self, name: str, answered: bool) -> None:
        """What became of a request: `answered` is false for no answer, a broken one, or an upstream's own failure."""
        now = self.clock()
        circuit = self._circuits.get(name)
        if circuit is None:
            circuit = self._circuits[name] = Circuit(name, self.policies.get(name, DEFAULT), window_at=now)
        circuit.turn(now)
        if answered and circuit.state is CircuitState.CLOSED and circuit.in_a_row == 0:
            circuit.answered += 1  # nearly always
            return
        self._judge(circuit, answered, now)

    def _judge(self, circuit: Circuit, answered: bool, now: float) -> None:
        if circuit.state is CircuitState.OPEN:  # sent before it opened
            return
        if circuit.state is CircuitState.HALF_OPEN:
            self._judge_probe(circuit, answered, now)
            return
        if answered:
            circuit.answered += 1
            circuit.in_a_row = 0
            return
        circuit.failed += 1
        circuit.in_a_row += 1
        if circuit.policy.failures and circuit.is_broken():
            circuit.open(now)
            _log.warning("circuit_opened", upstream=circuit.name, in_a_row=circuit.in_a_row, failed=circuit.failed)

    def _judge_probe(self, circuit: Circuit, answered: bool, now: float) -> None:
        if answered:
            circuit.close()
            _log.info("circuit_closed", upstream=circuit.name)
        else:
            circuit.open(now)

    def circuits(self) -> Iterator[Circuit]:
        """All that were used so far; may be read from another thread."""
        yield from list(self._circuits.values())
