"""A dataset's card: what it holds, what was left out and why, and where it all came from."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from capture.datasets.filters import Candidate
from capture.datasets.row import Row

SAMPLES = 3
IMPORTED = "(imported)"

State = Literal["queued", "building", "ready", "failed"]
Split = Literal["train", "holdout"]


class Tokens(msgspec.Struct, kw_only=True):
    """Tokens of a split's exchanges. `estimated` and `unknown` count rows, not tokens."""

    input: int = 0
    output: int = 0
    estimated: int = 0
    unknown: int = 0


class Contents(msgspec.Struct, kw_only=True):
    """What was measured while the rows were written; the part of the card that a rebuild repeats exactly."""

    rows: dict[str, int] = {}  # by split
    considered: dict[str, int] = {}  # exchanges looked at, by split
    drops: dict[str, int] = {}  # train candidates left out, by reason
    holdout_drops: dict[str, int] = {}
    tokens: dict[str, Tokens] = {}  # by split
    labels: dict[str, dict[str, int]] = {}  # by split
    prompt_versions: dict[str, dict[str, int]] = {}  # by split
    sources: dict[str, int] = {}  # of train rows: teacher, correction
    upstreams: dict[str, int] = {}
    models: dict[str, int] = {}
    arms: dict[str, int] = {}
    with_truth: dict[str, int] = {}  # rows whose truth is known, by split
    tools: int = 0  # rows with tools
    since: float | None = None  # Unix seconds of the first and last exchange
    until: float | None = None
    near_duplicate: float = 0.0
    samples: list[Row] = []
    erased: int = 0  # rows taken out since, because their exchange was erased


class Card(Contents, kw_only=True):
    """A dataset's identity, its state and its contents. `error`: why it failed. Times are Unix seconds."""

    id: str
    task: str
    version: int
    state: State
    hash: str | None = None
    error: str | None = None
    created_at: float
    ready_at: float | None = None
    filters: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return f"{self.task}@{self.version}"


@dataclass
class Tally:
    """Counts rows as they are written."""

    tokens: dict[str, Tokens] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    samples: list[Row] = field(default_factory=list)

    def add(self, split: Split, row: Row, candidate: Candidate | None) -> None:
        """`candidate` is None for an imported row: who answered it is not known here."""
        self._count("rows", split)
        self._count(f"labels:{split}", row.label or "")
        self._count(f"prompt_versions:{split}", row.fingerprint or "")
        self._count("upstreams", candidate.upstream if candidate else IMPORTED)
        self._count("models", candidate.served_model if candidate else IMPORTED)
        self._count("arms", candidate.arm if candidate else IMPORTED)
        self._count("tools", "rows" if row.request.get("tools") else "")
        if row.truth is not None:
            self._count("with_truth", split)
        if split == "train":
            self._count("sources", row.source)
            if len(self.samples) < SAMPLES:
                self.samples.append(row)
        self.times = [min([*self.times, row.started_at]), max([*self.times, row.started_at])]
        self._count_tokens(self.tokens.setdefault(split, Tokens()), candidate)

    def _count(self, what: str, which: str) -> None:
        self.counts.setdefault(what, Counter())[which] += 1

    def _count_tokens(self, tokens: Tokens, candidate: Candidate | None) -> None:
        if candidate is None or candidate.input_tokens is None or candidate.output_tokens is None:
            tokens.unknown += 1
            return
        tokens.input += candidate.input_tokens
        tokens.output += candidate.output_tokens
        tokens.estimated += candidate.tokens_estimated

    def contents(self) -> Contents:
        """The counts as a card holds them, without what was considered and dropped."""
        since, until = self.times or (None, None)
        return Contents(
            rows={split: self._of("rows").get(split, 0) for split in ("train", "holdout")},
            tokens=self.tokens,
            labels={split: self._of(f"labels:{split}") for split in ("train", "holdout")},
            prompt_versions={split: self._of(f"prompt_versions:{split}") for split in ("train", "holdout")},
            sources=self._of("sources"),
            upstreams=self._of("upstreams"),
            models=self._of("models"),
            arms=self._of("arms"),
            with_truth=self._of("with_truth"),
            tools=self._of("tools").get("rows", 0),
            since=since,
            until=until,
            samples=self.samples,
        )

    def _of(self, what: str) -> dict[str, int]:
        return dict(sorted(self.counts.get(what, {}).items()))
