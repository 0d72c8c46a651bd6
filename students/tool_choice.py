"""Which tools an answer may call, and how many: `tool_choice` and `parallel_tool_calls` of both APIs. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """At least and at most so many calls (`most` None: any number), of these functions (`names` None: of any)."""

    least: int = 0
    most: int | None = None
    names: frozenset[str] | None = None

    def allows(self, called: Sequence[Any]) -> bool:
        """Whether an answer may call these functions, given by name."""
        if len(called) < self.least or (self.most is not None and len(called) > self.most):
            return False
        return self.names is None or all(isinstance(name, str) and name in self.names for name in called)


def tool_choice_of(request: Mapping[str, Any]) -> ToolChoice | None:
    """What a request of either kind says; None for what is not known here (hosted tools, other providers' words)."""
    given = request.get("tool_choice")
    most = 1 if request.get("parallel_tool_calls") is False else None
    if given in (None, "auto"):
        return ToolChoice(0, most)
    if given == "none":
        return ToolChoice(0, 0)
    if given == "required":
        return ToolChoice(1, most)
    if not isinstance(given, dict):
        return None
    if given.get("type") == "allowed_tools":
        return _among(given.get("allowed_tools", given), most)
    names = _names([given])
    return None if names is None else ToolChoice(1, most, names)


def _among(given: Any, most: int | None) -> ToolChoice | None:
    if not isinstance(given, dict) or given.get("mode") not in ("auto", "required"):
        return None
    names = _names(given.get("tools"))
    return None if names is None else ToolChoice(int(given["mode"] == "required"), most, names)


def _names(tools: Any) -> frozenset[str] | None:
    """Of function tools, in Chat's nesting or side by side; None where one is anything else."""
    if not isinstance(tools, list):
        return None
    found = [_name(tool) for tool in tools]
    names = frozenset(name for name in found if name is not None)
    return None if None in found else names


def _name(tool: Any) -> str | None:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return None
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
