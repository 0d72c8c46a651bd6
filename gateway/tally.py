"""What the router counts: assignments, and why requests were not eligible, by task."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Written by one event loop alone, so that plain integers do."""

    assignments: dict[tuple[str, str], int] = field(default_factory=dict)  # (task, assignment)
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)  # (task, reason)

    def add(self, task: str, assignment: str | None, reason: str | None) -> None:
        if assignment is not None:
            self.assignments[task, assignment] = self.assignments.get((task, assignment), 0) + 1
        if reason is not None:
            self.reasons[task, reason] = self.reasons.get((task, reason), 0) + 1
