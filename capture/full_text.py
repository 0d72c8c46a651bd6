"""The full-text index beside the exchanges: FTS5 on SQLite, a tsvector under GIN on PostgreSQL, behind one seam.

Only redacted text comes here. Words are told apart here, not by the databases, so that both find the same. The index is
no table of SQLAlchemy's: it is made with the exchanges and written in the transactions that write them.

Beside the words an entry holds marks for what lists are narrowed by, so that a frequent word under a rare condition
costs no walk through all its exchanges. On SQLite an entry's number is its exchange's time, so that the newest matches
are read first and reading stops with the page.
"""

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    bindparam,
    cast,
    column,
    delete,
    false,
    func,
    insert,
    literal_column,
    select,
    table,
)
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import Text

NAME = "exchange_words"
INDEXED_CHARACTERS = 16_000  # of a question, and of an answer; what lies beyond is not found
LONGEST_WORD = 64
SHORTEST_PREFIX = 3  # the last word asked for is also found as a beginning, from this many characters on
KEPT_PREFIXES = (3, 4)
MOST_NAMED = 50

MARKED = ("task", "key_id", "session", "user", "fingerprint", "rollout", "student", "arm", "label")
MODELS = ("model", "served_model")  # a mark of one name for both
_MODEL, _FAILED, _METADATA, _STORED = "model", "failed", "metadata.", "stored"

_words = table(NAME, column("rowid"), column("exchange_id"), column("words"))
# Scripts without spaces are indexed by the character: Thai and its neighbours, kana, Han.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_VOCABULARY = f"{NAME}_vocabulary"
_CHANCE_BITS = 8
_REACH = 1 << 16  # numbers after its own that an entry may have when its own was taken

_SQLITE = (
    f"CREATE VIRTUAL TABLE IF NOT EXISTS {NAME} USING fts5(exchange_id UNINDEXED, words, content='', "
    f"contentless_delete=1, contentless_unindexed=1, detail=none, prefix='{' '.join(map(str, KEPT_PREFIXES))}', "
    "tokenize=\"unicode61 remove_diacritics 0 tokenchars '_'\")",
)
_POSTGRESQL = (
    f"CREATE TABLE IF NOT EXISTS {NAME} (exchange_id VARCHAR PRIMARY KEY REFERENCES exchanges ON DELETE CASCADE, "
    "words TSVECTOR NOT NULL)",
    f"CREATE INDEX IF NOT EXISTS {NAME}_words ON {NAME} USING gin (words)",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is indexed of one exchange: its words, and its row, of which some columns are marked."""

    exchange_id: str
    words: frozenset[str]
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Search:
    """All of these words must occur. `marks`: of `MARKED`, what they must be; of the task, "" is none.

    What is narrowed here is a part of what is asked for: the caller's conditions hold too. Times are Unix seconds.
    """

    text: str
    marks: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    failed: bool | None = None
    since: float | None = None
    until: float | None = None
    before_id: str | None = None


def create(connection: Connection) -> None:
    """Makes the index where it is missing; the exchanges' table must be there."""
    for statement in _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL:
        connection.execute(sql(statement))


def drop(connection: Connection) -> None:
    connection.execute(sql(f"DROP TABLE IF EXISTS {NAME}"))
    connection.execute(sql(f"DROP TABLE IF EXISTS {NAME}_content"))  # which SQLite 3.53 leaves behind


def words_of(text: str) -> frozenset[str]:
    """The words of a text, case folded."""
    return frozenset(word[:LONGEST_WORD] for word in _WORD.findall(text[:INDEXED_CHARACTERS].casefold()))


def is_failed(status: int, complete: bool) -> bool:
    """Whether lists call an exchange failed: a status of 400 and above, or broken off."""
    return status >= 400 or not complete


def add(connection: Connection, entries: Sequence[Entry]) -> None:
    """Indexes exchanges that are not indexed yet, in the caller's transaction."""
    if not entries:
        return
    if connection.dialect.name == "sqlite":
        rows = _numbered(connection, entries)
        connection.execute(insert(_words), rows)
        return
    vector = func.array_to_tsvector(cast(bindparam("found", type_=ARRAY(Text)), ARRAY(Text)))
    rows = [{"of": one.exchange_id, "found": sorted({*one.words, *_marks_of(one.row)})} for one in entries]
    connection.execute(insert(_words).values(exchange_id=bindparam("of"), words=vector), rows)


def remove(connection: Connection, exchange_ids: Sequence[str]) -> None:
    """Takes exchanges out, in the caller's transaction."""
    if connection.dialect.name != "sqlite":
        connection.execute(delete(_words).where(_words.c.exchange_id.in_(exchange_ids)))
        return
    numbers = [{"number": number} for one in exchange_ids if (number := _number_in(connection, one)) is not None]
    if numbers:
        connection.execute(sql(f"DELETE FROM {NAME} WHERE rowid = :number"), numbers)  # noqa: S608 - our own name


def matching(connection: Connection, query: Select[Any], identity: ColumnElement[str], wanted: Search) -> Select[Any]:
    """`query` over exchanges, of those alone that match, newest first; `identity`: their id. No word: none matches."""
    words = [word[:LONGEST_WORD] for word in _WORD.findall(wanted.text.casefold())]
    if not words:
        return query.where(false())
    query = query.join(_words, _words.c.exchange_id == identity)
    if connection.dialect.name != "sqlite":
        query = query.where(_words.c.words.op("@@")(cast(_tsquery(words, wanted), TSQUERY))).order_by(identity.desc())
        return query if wanted.before_id is None else query.where(identity < wanted.before_id)
    asked = [f'"{word}"' for word in words[:-1]]
    asked += [_beginning(connection, words[-1])]
    asked += [f"({' OR '.join(any_of)})" for any_of in _asked(wanted)]
    query = query.where(literal_column(NAME).op("MATCH")(" AND ".join(asked)))
    return query.where(*_range(connection, wanted)).order_by(_words.c.rowid.desc())


def _beginning(connection: Connection, word: str) -> str:
    """FTS5's expression for words that begin so.

    It gathers all entries of a beginning before it gives the first, unless the beginning is as long as one that it
    keeps; so a few words are named one by one.
    """
    if len(word) < SHORTEST_PREFIX:
        return f'"{word}"'
    if len(word) in KEPT_PREFIXES:
        return f'"{word}"*'
    connection.execute(sql(f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.{_VOCABULARY} USING fts5vocab(main, {NAME}, row)"))
    known = table(_VOCABULARY, column("term"))
    bounds = (known.c.term >= word, known.c.term < f"{word}{chr(sys.maxunicode)}")
    found = list(connection.scalars(select(known.c.term).where(*bounds).limit(MOST_NAMED + 1)))
    if not 0 < len(found) <= MOST_NAMED:
        return f'"{word}"*'
    named = " OR ".join(f'"{term}"' for term in found)
    return f"({named})"


def _tsquery(words: Sequence[str], wanted: Search) -> str:
    last = ":*" if len(words[-1]) >= SHORTEST_PREFIX else ""
    marks = [f" & ({' | '.join(any_of)})" for any_of in _asked(wanted)]
    return " & ".join(f"'{word}'" for word in words) + last + "".join(marks)


def _marks_of(row: Mapping[str, Any]) -> list[str]:
    """The marks of an exchange. A client may replace a stored completion's metadata: it has one mark for all of it."""
    given = [(name, row[name]) for name in MARKED if row.get(name) is not None]
    given += [] if row["task"] is not None else [("task", "")]
    given += [(_MODEL, name) for name in dict.fromkeys(row[column] for column in MODELS)]
    tags = [(f"{_METADATA}{name}", value) for name, value in row["metadata"].items()]
    given += [(_STORED, "")] if row["stored"] else tags
    return [_mark(*one) for one in [*given, (_FAILED, str(is_failed(row["status"], row["complete"])))]]


def _asked(wanted: Search) -> list[list[str]]:
    """Of each of these lists, one mark must be there."""
    given = [*wanted.marks.items()]
    given += [] if wanted.model is None else [(_MODEL, wanted.model)]
    given += [] if wanted.failed is None else [(_FAILED, str(wanted.failed))]
    tags = [[_mark(f"{_METADATA}{name}", value), _mark(_STORED, "")] for name, value in wanted.metadata.items()]
    return [[_mark(*one)] for one in given] + tags


def _mark(name: str, value: str) -> str:
    """A word that no text has: those never hold an underscore."""
    return f"_{hashlib.blake2b(f'{name} {value}'.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"


def _numbered(connection: Connection, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    wanted = [_number(one.exchange_id) for one in entries]
    taken = set(connection.scalars(select(_words.c.rowid).where(_words.c.rowid.in_(wanted))))
    rows = []
    for one, number in zip(entries, wanted, strict=True):
        if number in taken:
            number = _free(connection, number, taken)
        taken.add(number)
        words = " ".join([*sorted(one.words), *_marks_of(one.row)])
        rows.append({"rowid": number, "exchange_id": one.exchange_id, "words": words})
    return rows


def _number(exchange_id: str) -> int:
    """The milliseconds that the id (UUIDv7) begins with, and eight bits of its chance."""
    try:
        return int(exchange_id[:12], 16) << _CHANCE_BITS | int(exchange_id[13:15], 16)
    except ValueError:
        return 0


def _free(connection: Connection, number: int, taken: set[int]) -> int:
    """The number after the last one that is taken near by."""
    near = (_words.c.rowid >= number) & (_words.c.rowid < number + _REACH)
    last = connection.scalar(select(func.max(_words.c.rowid)).where(near))
    following = [other for other in taken if number <= other < number + _REACH]
    return int(max([number, last or 0, *following])) + 1


def _number_in(connection: Connection, exchange_id: str) -> int | None:
    number = _number(exchange_id)
    near = (_words.c.rowid >= number) & (_words.c.rowid <= number + _REACH)
    found = select(_words.c.rowid).where(near, _words.c.exchange_id == exchange_id).order_by(_words.c.rowid).limit(1)
    return connection.scalar(found)


def _range(connection: Connection, wanted: Search) -> list[ColumnElement[bool]]:
    """Bounds on the number; those of time are loose by what a number may lie behind its time."""
    bounds: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        bounds.append(_words.c.rowid >= max(0, int(wanted.since * 1000)) << _CHANCE_BITS)
    if wanted.until is not None:
        bounds.append(_words.c.rowid < (max(0, int(wanted.until * 1000)) << _CHANCE_BITS) + _REACH)
    if wanted.before_id is not None:
        number = _number_in(connection, wanted.before_id)
        bounds.append(_words.c.rowid < (_number(wanted.before_id) if number is None else number))
    return bounds
