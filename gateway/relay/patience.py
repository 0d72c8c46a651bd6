"""How long one client may take over a head, a body, a pause, or reading its answer."""

from gateway.relay.context import Limits

_NEVER = float("inf")


class Patience:
    """The deadlines of one connection, in seconds of the event loop's clock; the sweep asks, nothing is armed."""

    __slots__ = ("_body_began", "_body_bytes", "_deadline", "_held_at", "_limits", "_stalled_at")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._deadline = _NEVER
        self._stalled_at = _NEVER
        self._body_began = 0.0
        self._body_bytes = 0
        self._held_at = 0.0

    def await_request(self, now: float) -> None:
        self._deadline = now + self._limits.keep_alive_s

    def await_head(self, now: float) -> None:
        self._deadline = now + self._limits.head_timeout_s

    def await_body(self, now: float) -> None:
        self._body_began = now
        self._body_bytes = 0
        self._deadline = now + self._limits.body_timeout_s

    def await_goodbye(self, now: float) -> None:
        self._deadline = now + self._limits.linger_s

    def await_last_bytes(self, now: float) -> None:
        self._deadline = now + self._limits.stall_timeout_s

    def await_nothing(self) -> None:
        self._deadline = _NEVER

    def body_came(self, count: int) -> None:
        self._body_bytes += count

    def hold(self, now: float) -> None:
        """We ourselves stop reading the body: that time is not the client's."""
        self._held_at = now

    def let_go(self, now: float) -> None:
        self._body_began += now - self._held_at

    def stall(self, now: float) -> None:
        """It does not take what we write."""
        self._stalled_at = now

    def flow(self) -> None:
        self._stalled_at = _NEVER

    def is_stalled(self, now: float) -> bool:
        return now - self._stalled_at > self._limits.stall_timeout_s

    def is_over(self, now: float) -> bool:
        return now >= self._deadline

    def body_is_over(self, now: float, reading_paused: bool) -> bool:
        """A body that comes at a fair pace, or that we ourselves do not read, gets more time."""
        limits = self._limits
        if reading_paused:
            self._deadline = now + limits.body_timeout_s
            return False
        allowed = self._body_began + limits.body_timeout_s + self._body_bytes / limits.body_bytes_per_s
        self._deadline = allowed
        return now >= allowed
