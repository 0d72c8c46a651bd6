"""Whether a client's file holds answers that may not be trained on: captured here, of a provider that forbids it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import select

from capture.bodies import unpack_answer
from capture.errors import RefusedError
from capture.prompts import hashed, variable_text
from capture.redact import Redactor, load_secret
from capture.settings import RedactionSettings
from capture.tables import bodies, exchanges
from students.job_rows import read_lines
from students.workshop import Workshop

BATCH = 200
COMPARED = 5_000  # captured answers at most for one batch: prompts that are asked all the time

Mask = Callable[[str], str]


@dataclass(frozen=True)
class _Said:
    """One line's answer, and the hashes under which its prompt would have been captured."""

    number: int
    text: str
    hashes: frozenset[str]


def check_terms(shop: Workshop, path: Path) -> None:
    """Raises RefusedError with the first line whose answer came, word for word, from upstreams that forbid training.

    An answer that one of the others gave to the same prompt too is theirs; where an answer of somebody else came from,
    its owner must know.
    """
    forbidding = {name for name, one in shop.settings.upstreams.items() if not one.training_allowed}
    if not forbidding:
        return
    masks = _masks(shop)
    lines = (_said(number, line, masks) for number, line in read_lines(path))
    while batch := list(islice(lines, BATCH)):
        shop.check()
        for said, sources in _sources(shop, batch, masks[0]):
            if sources and sources <= forbidding:
                name = min(sources)
                raise RefusedError(
                    f"line {said.number} of {path.stem} is an answer of upstream {name!r}, whose terms do not allow "
                    f"training: upstreams.{name}.training_allowed"
                )


def _masks(shop: Workshop) -> Sequence[Mask]:
    """What makes texts equal that differ in personal values alone, by each rule that is in force."""
    secret = load_secret(shop.data)
    rules = [RedactionSettings(), *(task.redaction for task in shop.load_tasks().values())]
    distinct = {rule.model_dump_json(): rule for rule in rules}
    return [Redactor(rule, secret).masked for rule in distinct.values()]


def _said(number: int, line: dict[str, Any], masks: Sequence[Mask]) -> _Said:
    text = variable_text({**line, "messages": line["messages"][:-1]})
    hashes = frozenset(hashed("content", mask(text)) for mask in masks)
    return _Said(number, masks[0](_text_of(line["messages"][-1])), hashes)


def _sources(shop: Workshop, batch: Sequence[_Said], mask: Mask) -> Iterator[tuple[_Said, set[str]]]:
    """Each line with the upstreams that were captured saying the same to the same."""
    wanted = {digest for said in batch for digest in said.hashes}
    columns = (exchanges.c.content_hash, exchanges.c.upstream, bodies.c.answer)
    query = select(*columns).join(bodies, bodies.c.exchange_id == exchanges.c.id)
    known: dict[tuple[str, str], set[str]] = {}
    with shop.store.read() as connection:
        for row in connection.execute(query.where(exchanges.c.content_hash.in_(wanted)).limit(COMPARED)):
            text = mask(unpack_answer(row.answer).text)
            known.setdefault((row.content_hash, text), set()).add(row.upstream)
    for said in batch:
        yield said, {name for digest in said.hashes for name in known.get((digest, said.text), ())}


def _text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return content or ""
