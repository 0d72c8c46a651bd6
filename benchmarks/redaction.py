"""How well and how fast redaction works: recall per kind, harmless strings changed, megabytes per second.

Run: python -m benchmarks.redaction
"""

import random
import time

from capture.recognisers import FINDERS
from capture.redact import Redactor
from capture.settings import RedactionSettings
from tests.factories.personal import HARMLESS, LABELLED, MAKERS, hard_negatives

PROSE = (
    "Dear team, my order 4929381 placed on 2026-11-24 has still not arrived although your tracking page says it was "
    "delivered to the neighbour. I have called twice and was told to wait. Could you check with the carrier? "
)
JSON = '{"category": "billing", "priority": "high", "amount": 129.9, "summary": "order has not arrived at all"} '


def main() -> None:
    redactor = Redactor(RedactionSettings(kinds=tuple(FINDERS)), b"k" * 32)
    draws = random.Random(11)
    print(f"{'kind':16} {'strings':>8} {'recall':>8} {'precision':>10}")
    found = {name: _found(redactor, name, draws) for name in LABELLED}
    negatives = [*HARMLESS, *hard_negatives(draws, 200)]
    wrong: dict[str, int] = dict.fromkeys(MAKERS, 0)
    for text in negatives:
        for span in redactor._spans(text):
            wrong[span.kind] += 1
    for name, (total, right, other) in found.items():
        kind = LABELLED[name][2]
        taken = right + wrong[kind] + sum(others.get(kind, 0) for _, _, others in found.values())
        print(f"{name:16} {total:8} {right / total:8.3f} {right / taken:10.3f}")
        if other:
            print(f"{'':16} taken for another kind: {other}")
    print(f"of {len(negatives)} harmless strings {sum(wrong.values())} were changed")
    for name, text in (("prose", PROSE), ("JSON", JSON)):
        print(f"{name}: {_speed(redactor, text * 10):.1f} MB/s")


def _found(redactor: Redactor, name: str, draws: random.Random) -> tuple[int, int, dict[str, int]]:
    """(strings, those whose value was found whole as its kind, others by the kind they were taken for)."""
    right, others, total = 0, dict[str, int](), 500
    make, frames, kind = LABELLED[name]
    for _ in range(total):
        value = make(draws)
        frame = draws.choice(frames)
        text = frame.format(value)
        at = text.index(value)
        spans = [span for span in redactor._spans(text) if span.start <= at and span.end >= at + len(value)]
        right += any(span.kind == kind for span in spans)
        for span in spans:
            if span.kind != kind:
                others[span.kind] = others.get(span.kind, 0) + 1
    return total, right, others


def _speed(redactor: Redactor, text: str) -> float:
    texts = [f"{text}{number}" for number in range(300)]
    began = time.process_time()
    for number, one in enumerate(texts):
        redactor.redact_value(str(number), one)
    return sum(map(len, texts)) / (time.process_time() - began) / 1e6


if __name__ == "__main__":
    main()
