"""From JSONL rows to tokens: which of them the student learns to say, and which rows cannot be used."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from capture.errors import RefusedError


@dataclass(frozen=True)
class Lesson:
    """One row: its tokens, and for each whether it is the assistant's, hence learnt."""

    ids: tuple[int, ...]
    learnt: tuple[bool, ...]

    @property
    def prompt_length(self) -> int:
        """Tokens before the first one that is learnt."""
        return self.learnt.index(True)


@dataclass(frozen=True)
class Lessons:
    """The rows that can be used, in their order, and how many could not, by reason."""

    kept: tuple[Lesson, ...]
    dropped: Mapping[str, int]


def read_rows(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Every row of the files. Raises RefusedError with file and line for one that is not a row."""
    for path in paths:
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                row = _decode(line)
                if row is None:
                    raise RefusedError(
                        f'{path}, line {number}: not a training row ({{"messages": […]}}): mend the file'
                    )
                yield row


def encode_rows(rows: Iterable[Mapping[str, Any]], tokenizer: Any, max_tokens: int) -> Lessons:
    """Rows through the tokenizer's chat template. None is cut: what is too long is left out and counted."""
    kept, dropped = [], Counter[str]()
    for row in rows:
        lesson = encode_row(row, tokenizer)
        if lesson is None:
            dropped["nothing to learn"] += 1
        elif len(lesson.ids) > max_tokens:
            dropped["too long"] += 1
        else:
            kept.append(lesson)
    return Lessons(tuple(kept), dict(dropped))


def encode_row(row: Mapping[str, Any], tokenizer: Any) -> Lesson | None:
    """A row's tokens; None when no message of the assistant is in it.

    What the assistant says is what the template adds to the prompt before it, up to and with the end of its turn: the
    prompt is rendered exactly as a server renders it. A message with "weight": 0 is not learnt, as OpenAI's files have
    it. Raises RefusedError for a template under which that cannot be told.
    """
    messages, tools = row["messages"], row.get("tools")
    ids: list[int] = _render(tokenizer, messages, tools)
    learnt = [False] * len(ids)
    end = 0
    for at, message in enumerate(messages):
        if message["role"] != "assistant" or message.get("weight") == 0:
            continue
        asked = _render(tokenizer, messages[:at], tools, prompt=True)
        said = _render(tokenizer, messages[: at + 1], tools)
        if asked != ids[: len(asked)] or said != ids[: len(said)]:
            raise RefusedError("the base's chat template changes earlier turns as a conversation grows: choose another")
        start, end = len(asked), _turn_end(ids, len(asked), len(said), tokenizer.eos_token_id)
        learnt[start:end] = [True] * (end - start)
    return Lesson(tuple(ids[:end]), tuple(learnt[:end])) if end else None


def split_validation(lessons: Sequence[Lesson], share: float) -> tuple[list[Lesson], list[Lesson]]:
    """Every n-th row is held back, so that a share of them is; the rest is trained on."""
    if share <= 0:
        return list(lessons), []
    step = max(2, round(1 / share))
    return [row for at, row in enumerate(lessons) if at % step], list(lessons[::step])


def _render(tokenizer: Any, messages: Sequence[Any], tools: Any, *, prompt: bool = False) -> list[int]:
    rendered: list[int] = tokenizer.apply_chat_template(
        list(messages), tools=tools, add_generation_prompt=prompt, tokenize=True, return_dict=False
    )
    return rendered


def _turn_end(ids: Sequence[int], start: int, end: int, stop: int) -> int:
    """Just behind the last end-of-turn token of a turn: what the template puts after it is never generated."""
    return next((at + 1 for at in range(end - 1, start - 1, -1) if ids[at] == stop), end)


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    messages = row.get("messages") if isinstance(row, dict) else None
    sound = isinstance(messages, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages
    )
    return row if sound and messages else None
