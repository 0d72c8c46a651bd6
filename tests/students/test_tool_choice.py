from typing import Any

import pytest

from students.tool_choice import ToolChoice, tool_choice_of

CHAT = {"type": "function", "function": {"name": "f"}}
SIDE_BY_SIDE = {"type": "function", "name": "f"}
F = frozenset({"f"})


@pytest.mark.parametrize(
    ("choice", "known"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice(0, 0)),
        ("required", ToolChoice(1)),
        (CHAT, ToolChoice(1, None, F)),
        (SIDE_BY_SIDE, ToolChoice(1, None, F)),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [CHAT]}}, ToolChoice(0, None, F)),
        ({"type": "allowed_tools", "mode": "required", "tools": [SIDE_BY_SIDE]}, ToolChoice(1, None, F)),
        ("any", None),
        (3, None),
        ([CHAT], None),
        ({"type": "file_search"}, None),
        ({"type": "custom", "custom": {"name": "f"}}, None),
        ({"type": "function"}, None),
        ({"type": "function", "function": "f"}, None),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "mcp"}]}}, None),
        ({"type": "allowed_tools", "mode": "sometimes", "tools": [CHAT]}, None),
        ({"type": "allowed_tools", "allowed_tools": "f"}, None),
    ],
)
def test_both_apis_ways_to_choose(choice: Any, known: ToolChoice | None) -> None:
    assert tool_choice_of({"tool_choice": choice}) == known


def test_no_parallel_calls_are_one_at_most() -> None:
    assert tool_choice_of({"parallel_tool_calls": False}) == ToolChoice(0, 1)
    assert tool_choice_of({"parallel_tool_calls": False, "tool_choice": "required"}) == ToolChoice(1, 1)
    assert tool_choice_of({"parallel_tool_calls": True}) == ToolChoice()
