"""Tasks that nobody has named yet: unmatched traffic grouped by prompt template, tools and schema, with what it costs.

The worker digests new exchanges a batch at a time. What is kept is bounded: so many candidates, so many exchanges that
no template was found for yet. An exchange that reaches the store later than `SETTLE_S` after its beginning may be left
out of a candidate's counts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, select, update

from capture.assemble import RAW_KEY
from capture.bodies import unpack_request
from capture.db import Store, insert_once, upsert
from capture.loading import is_large, stream_bodies
from capture.prompts import first_user_text, hashed, schema_of, system_prompt
from capture.settings import MatchSettings, TaskSettings
from capture.tables import candidates as table
from capture.tables import discovery as progress
from capture.tables import exchanges
from capture.tasks import Matcher
from capture.templates import Features, Prompt, alike, belongs, groups
from capture.traffic import id_at

Json = dict[str, Any]

SETTLE_S = 5.0
BATCH = 500
MOST_WAITING = 1000
MOST_CANDIDATES = 200
MOST_EXAMPLES = 5
MOST_FINGERPRINTS = 20
FULL_SHARE = 0.95  # of a task's traffic: the rest is the control
DAY_S, MONTH_DAYS = 86_400, 30
_ROUTES = ("chat.completions", "responses")


@dataclass(frozen=True)
class Asked:
    """An unmatched exchange as far as discovery looks at it."""

    row: Any
    prompt: Prompt
    bucket: str  # of its tools and schema
    tools: tuple[str, ...]
    schema: str | None


class Found(msgspec.Struct, kw_only=True):
    """A candidate as it is kept; the columns of `candidates`."""

    id: str
    bucket: str
    core: list[int]
    words: int
    template: str
    system: bool  # there is a system prompt
    tools: list[str]
    schema_name: str | None
    exchanges: int = 0
    priced: int = 0
    cost_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    models: dict[str, int] = {}
    upstreams: dict[str, int] = {}
    fingerprints: list[str] = []
    metadata: dict[str, str] | None = None  # what all of its exchanges say
    examples: list[str] = []
    first_seen: float = 0.0
    last_seen: float = 0.0

    @property
    def has_fingerprint(self) -> bool:
        """Whether a fingerprint tells these prompts from others: it is of the system prompt, tools and schema."""
        return bool(self.tools or self.schema_name or self.system)

    @property
    def features(self) -> Features:
        return frozenset(self.core)


def digest(store: Store, clock: Callable[[], float], limit: int = BATCH) -> int:
    """Takes up to `limit` new unmatched exchanges into the candidates and returns how many; 0: there are no more."""
    with store.read() as connection:
        after, waiting = _standing(connection)
        fresh = list(connection.scalars(_unmatched(after, clock(), limit)))
        known = [_found(row) for row in connection.execute(select(table))] if fresh else []
        asked = list(_asked(connection, [*waiting, *fresh]))
    if not fresh:
        return 0
    changed, rest = place(known, asked)
    left = [one.row.id for one in rest][-MOST_WAITING:]
    with store.write() as connection:
        if _advance(connection, after, fresh[-1], left):
            upsert(connection, table, [msgspec.structs.asdict(one) for one in changed], ["id"])
            _bound(connection)
    return len(fresh)


def place(known: Sequence[Found], asked: Sequence[Asked]) -> tuple[list[Found], list[Asked]]:
    """The candidates that these exchanges change or make, with them counted, and those that belong to none.

    Pure but for the members of `known`, which are counted up.
    """
    changed: dict[str, Found] = {}
    rest: list[Asked] = []
    for one in asked:
        fits = [other for other in known if other.bucket == one.bucket and belongs(one.prompt.features, other.features)]
        if fits:
            best = max(fits, key=lambda other: (len(other.core), other.id))
            _count(best, one)
            changed[best.id] = best
        else:
            rest.append(one)
    made: set[str] = set()
    for bucket in sorted({one.bucket for one in rest}):
        for candidate, members in _new([one for one in rest if one.bucket == bucket], known):
            changed[candidate.id] = candidate
            made.update(one.row.id for one in members)
    return list(changed.values()), [one for one in rest if one.row.id not in made]


def _new(asked: Sequence[Asked], known: Sequence[Found]) -> Iterator[tuple[Found, list[Asked]]]:
    for group in groups([one.prompt for one in asked]):
        members = [asked[place] for place in group.members]
        first = members[0]
        like = (one for one in known if one.bucket == first.bucket)
        same = next((one for one in like if alike(first.prompt, group.core, one.features, one.words)), None)
        if same is not None:
            same.core = sorted(same.features & group.core)
            same.words = first.prompt.fixed_words(same.features)
            same.template = first.prompt.template(same.features)
        candidate = same or Found(
            id=hashed("candidate", f"{first.bucket}{sorted(group.core)}"),
            bucket=first.bucket,
            core=sorted(group.core),
            words=group.words,
            template=first.prompt.template(group.core),
            system=first.prompt.parts[0][0] == "system",
            tools=list(first.tools),
            schema_name=first.schema,
        )
        for one in members:
            _count(candidate, one)
        yield candidate, members


def _count(candidate: Found, one: Asked) -> None:
    row = one.row
    started = row.started_at
    candidate.first_seen = min(candidate.first_seen, started) if candidate.exchanges else started
    candidate.last_seen = max(candidate.last_seen, started)
    candidate.exchanges += 1
    candidate.priced += row.cost_usd is not None
    candidate.cost_usd += row.cost_usd or 0.0
    candidate.input_tokens += row.input_tokens or 0
    candidate.output_tokens += row.output_tokens or 0
    candidate.models[row.model] = candidate.models.get(row.model, 0) + 1
    candidate.upstreams[row.upstream] = candidate.upstreams.get(row.upstream, 0) + 1
    if row.fingerprint and row.fingerprint not in candidate.fingerprints[:MOST_FINGERPRINTS]:
        candidate.fingerprints = [*candidate.fingerprints, row.fingerprint][: MOST_FINGERPRINTS + 1]
    said = row.metadata if candidate.metadata is None else candidate.metadata
    candidate.metadata = {name: value for name, value in said.items() if row.metadata.get(name) == value}
    candidate.examples = [*candidate.examples, row.id][:MOST_EXAMPLES]


def _standing(connection: Connection) -> tuple[str, list[str]]:
    row = connection.execute(select(progress)).one_or_none()
    return (row.after, row.waiting) if row else ("", [])


def _unmatched(after: str, now: float, limit: int) -> Any:
    columns = exchanges.c
    query = select(columns.id).where(columns.task.is_(None), columns.id > after, columns.id < id_at(now - SETTLE_S))
    return query.order_by(columns.id).limit(limit)


def _asked(connection: Connection, ids: Sequence[str]) -> Iterator[Asked]:
    names = "id started_at route model upstream fingerprint cost_usd input_tokens output_tokens metadata status"
    columns = [exchanges.c[name] for name in names.split()]
    answered = (exchanges.c.id.in_(ids), exchanges.c.route.in_(_ROUTES), exchanges.c.status == 200)
    rows = {row.id: row for row in connection.execute(select(*columns).where(*answered))}
    for identity, request, _ in stream_bodies(connection, [one for one in ids if one in rows]):
        if not is_large(request) and (one := _of(rows[identity], unpack_request(request))) is not None:
            yield one


def _of(row: Any, request: Json) -> Asked | None:
    """None for what was no JSON, and for a request without any text."""
    if RAW_KEY in request:
        return None
    parts = [("system", system_prompt(request)), ("user", first_user_text(request))]
    prompt = Prompt([(name, text) for name, text in parts if text.strip()])
    if not prompt.features:
        return None
    tools, schema = request.get("tools"), schema_of(request)
    bucket = hashed("bucket", msgspec.json.encode([tools, schema], order="sorted").decode())
    return Asked(row, prompt, bucket, _tool_names(tools), _schema_name(schema))


def _tool_names(tools: Any) -> tuple[str, ...]:
    found = []
    for tool in tools if isinstance(tools, list) else ():
        described = tool.get("function", tool) if isinstance(tool, dict) else {}
        found.append(str(described.get("name", "?")) if isinstance(described, dict) else "?")
    return tuple(found)


def _schema_name(schema: Any) -> str | None:
    if not isinstance(schema, dict):
        return None
    described = schema.get("json_schema", schema)
    name = described.get("name") if isinstance(described, dict) else None
    return str(name or schema.get("type") or "") or None


def _advance(connection: Connection, before: str, after: str, waiting: list[str]) -> bool:
    """Whether it is ours to count: another worker may have been at it."""
    if not before:
        return insert_once(connection, progress, {"name": "unmatched", "after": after, "waiting": waiting}, ["name"])
    ours = update(progress).where(progress.c.after == before)
    return connection.execute(ours.values(after=after, waiting=waiting)).rowcount == 1


def _bound(connection: Connection) -> None:
    """Forgets the candidates that were not seen for longest, past the bound."""
    newest = select(table.c.id).order_by(table.c.last_seen.desc(), table.c.id).offset(MOST_CANDIDATES).limit(1000)
    gone = list(connection.scalars(newest))
    if gone:
        connection.execute(delete(table).where(table.c.id.in_(gone)))


def _found(row: Any) -> Found:
    return Found(**{name: row._mapping[name] for name in Found.__struct_fields__})


@dataclass(frozen=True)
class Candidate:
    """A task that could be made of unmatched traffic. Costs are US dollars, None where no price is known.

    `saving_usd_month`: what a student of this machine would save at its full share, if it took all of the requests.
    `match`: the rule that would find this traffic; None: only a header `x-stillhouse-task` would.
    """

    id: str
    template: str
    tools: tuple[str, ...]
    schema: str | None
    exchanges: int
    per_day: float
    cost_usd: float | None
    cost_usd_month: float | None
    saving_usd_month: float | None
    models: tuple[str, ...]
    upstream: str
    prompt_versions: int
    match: MatchSettings | None
    examples: tuple[str, ...]
    first_seen: float
    last_seen: float


def list_candidates(store: Store, tasks: Mapping[str, TaskSettings], limit: int = 50) -> list[Candidate]:
    """What could become a task, that which costs most first; without what a task's rule already covers."""
    with store.read() as connection:
        found = [_found(row) for row in connection.execute(select(table))]
    matcher = Matcher(tasks)
    shown = [_shown(one, [other for other in found if other is not one]) for one in found if not _covered(matcher, one)]
    return sorted(shown, key=lambda one: (-(one.cost_usd or 0), -one.exchanges, one.id))[:limit]


def _shown(one: Found, others: Sequence[Found]) -> Candidate:
    days = max(1.0, (one.last_seen - one.first_seen) / DAY_S)
    cost = one.cost_usd / one.priced * one.exchanges if one.priced else None
    month = None if cost is None else cost / days * MONTH_DAYS
    return Candidate(
        id=one.id,
        template=one.template,
        tools=tuple(one.tools),
        schema=one.schema_name,
        exchanges=one.exchanges,
        per_day=one.exchanges / days,
        cost_usd=cost,
        cost_usd_month=month,
        saving_usd_month=None if month is None else month * FULL_SHARE,
        models=_by_number(one.models),
        upstream=_by_number(one.upstreams)[0],
        prompt_versions=len(one.fingerprints),
        match=_match(one, others),
        examples=tuple(one.examples),
        first_seen=one.first_seen,
        last_seen=one.last_seen,
    )


def _match(one: Found, others: Sequence[Found]) -> MatchSettings | None:
    """By what its exchanges say in common, else by their prompt version; neither where it finds other traffic too."""
    model = next(iter(one.models)) if len(one.models) == 1 else None
    said = (one.metadata or {}).items()
    if said and not any(said <= (other.metadata or {}).items() for other in others):
        return MatchSettings(model=model, metadata=one.metadata or {})
    if len(one.fingerprints) == 1 and not any(one.fingerprints[0] in other.fingerprints for other in others):
        return MatchSettings(model=model, fingerprint=one.fingerprints[0]) if one.has_fingerprint else None
    return None


def _covered(matcher: Matcher, one: Found) -> bool:
    """Whether a task of now finds this traffic, as far as can be told from what was kept of it."""
    prints: list[str | None] = [*one.fingerprints] or [None]
    asked = [(model, printed) for model in one.models for printed in prints]
    return all(matcher.match(model, one.metadata or {}, {}, None, printed) is not None for model, printed in asked)


def _by_number(counted: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(sorted(counted, key=lambda name: (-counted[name], name)))
