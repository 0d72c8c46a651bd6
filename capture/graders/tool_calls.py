"""`tool_calls`: whether the output calls the reference's tools, in its order, with its arguments."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from capture.graders.grader import version_of
from capture.graders.sample import Json, Sample, message_of, same
from capture.settings import GraderSettings

CODE = 1


@dataclass(frozen=True)
class ToolCalls:
    """The mean over calls, by position, of ½ for the right name and ½ times the share of right arguments with it.

    A call too many or too few scores 0; no calls on either side scores 1.
    """

    name: str
    settings: GraderSettings
    needs_reference: bool = True

    @property
    def version(self) -> str:
        return version_of(self.settings, CODE)

    def score(self, sample: Sample) -> float | None:
        if sample.reference is None:
            return None
        output, reference = _calls(message_of(sample.output)), _calls(message_of(sample.reference))
        longest = max(len(output), len(reference))
        return sum(map(_likeness, output, reference)) / longest if longest else 1.0


@dataclass(frozen=True)
class _Call:
    name: str
    arguments: Json


def _calls(message: dict[str, Any]) -> list[_Call]:
    calls = message.get("tool_calls")
    return [_call(call) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _call(call: dict[str, Any]) -> _Call:
    function = call.get("function") or call.get("custom") or {}
    arguments = function.get("arguments", function.get("input", ""))
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):  # broken arguments are compared as the text they are
            arguments = json.loads(arguments or "{}")
    return _Call(str(function.get("name", "")), arguments)


def _likeness(output: _Call, reference: _Call) -> float:
    if output.name != reference.name:
        return 0.0
    left, right = output.arguments, reference.arguments
    if not isinstance(left, dict) or not isinstance(right, dict):
        return 0.5 + 0.5 * same(left, right)
    names = left.keys() | right.keys()
    right_ones = sum(name in left and name in right and same(left[name], right[name]) for name in names)
    return 0.5 + 0.5 * (right_ones / len(names) if names else 1.0)
