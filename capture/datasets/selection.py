"""Which exchanges become which rows: the holdout first, then what of the rest passes filters, seal and duplicates."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from capture.datasets import sources
from capture.datasets.balance import Pick, capped, rank
from capture.datasets.conversation import UnusableError, chat_request, target_of
from capture.datasets.duplicates import NearIndex, signatures
from capture.datasets.filters import Candidate, Filters, Known, Terms, answered, reason_against
from capture.datasets.row import Row, decode_row
from capture.datasets.sources import Found
from capture.db import Store
from capture.exchange import Answer
from capture.prompts import variable_text
from capture.rows import label_of

Json = dict[str, Any]

_CUT = frozenset({"length", "content_filter"})


@dataclass
class Selection:
    """What a build chose: the rows of both splits by id, and what it left out, by reason."""

    train: list[Pick] = field(default_factory=list)
    holdout: list[Pick] = field(default_factory=list)
    train_considered: int = 0
    holdout_considered: int = 0
    train_drops: Counter[str] = field(default_factory=Counter)
    holdout_drops: Counter[str] = field(default_factory=Counter)


@dataclass
class Seal:
    """What no training row may be, belong to, or be much like: the task's holdouts, this one and those before."""

    ids: set[str]
    conversations: set[str]
    hashes: set[str]
    texts: NearIndex

    def reason_against(self, candidate: Candidate) -> str | None:
        if candidate.id in self.ids or candidate.conversation in self.conversations:
            return "holdout_conversation"
        return "near_holdout" if candidate.content_hash in self.hashes else None

    def reason_against_row(self, row: Row) -> str | None:
        """The same for a row that comes from elsewhere."""
        if row.exchange_id in self.ids or row.conversation in self.conversations:
            return "holdout_conversation"
        (signature,) = signatures([variable_text(row.request)])
        return "near_holdout" if self.texts.has_near(signature) else None


def seal_of(store: Store, task: str, threshold: float) -> Seal:
    """The seal of a task as it stands, over captured exchanges and earlier datasets."""
    seal = Seal(set(), set(), set(), NearIndex(threshold))
    _choose_holdout(store, task, Filters(), Selection(), seal)
    _seal_earlier(store, task, seal)
    return seal


def select_rows(store: Store, task: str, filters: Filters, terms: Terms, threshold: float) -> Selection:
    """Streams the task's exchanges twice in batches; memory holds ids, hashes and signatures, no bodies.

    `filters.until` bounds both splits; `threshold` is the similarity from which on texts are near-duplicates.
    """
    selection = Selection()
    seal = Seal(set(), set(), set(), NearIndex(threshold))
    _choose_holdout(store, task, filters, selection, seal)
    _seal_earlier(store, task, seal)
    _choose_train(_Train(store, filters, terms, selection, seal, NearIndex(threshold)), task)
    return selection


def _seal_earlier(store: Store, task: str, seal: Seal) -> None:
    for batch in sources.once_held_out(store, task):
        rows = [row for row in map(decode_row, batch) if row.exchange_id not in seal.ids]
        seal.ids.update(row.exchange_id for row in rows)
        seal.conversations.update(row.conversation for row in rows)
        for signature in signatures([variable_text(row.request) for row in rows]):
            seal.texts.add(signature)


def _choose_holdout(store: Store, task: str, filters: Filters, selection: Selection, seal: Seal) -> None:
    """Every whole answer of the teacher's on the holdout side, each content once; too many: some by chance."""
    until = filters.until or float("inf")
    for batch in sources.candidates(store, task, until, holdout=True):
        selection.holdout_considered += len(batch)
        seal.ids.update(candidate.id for candidate in batch)
        seal.conversations.update(candidate.conversation for candidate in batch)
        fresh = _new_holdout(batch, selection, seal)
        with store.read() as connection:
            loaded = sources.with_bodies(connection, [Found(candidate, _NOTHING) for candidate in fresh])
            usable = _usable(loaded, selection.holdout_drops)
        for signature in signatures([text for _, text in usable]):
            seal.texts.add(signature)
        selection.holdout += [_pick(found, None) for found, _ in usable]
    if filters.max_holdout is not None and len(selection.holdout) > filters.max_holdout:
        selection.holdout_drops["max_holdout"] += len(selection.holdout) - filters.max_holdout
        by_chance = sorted(selection.holdout, key=lambda pick: rank(filters.seed, pick.id))
        selection.holdout = sorted(by_chance[: filters.max_holdout], key=lambda pick: pick.id)


_NOTHING = Known()


def _new_holdout(batch: Sequence[Candidate], selection: Selection, seal: Seal) -> list[Candidate]:
    fresh = []
    for candidate in batch:
        reason = answered(candidate) or ("duplicate" if candidate.content_hash in seal.hashes else None)
        if reason:
            selection.holdout_drops[reason] += 1
            continue
        seal.hashes.add(candidate.content_hash)
        fresh.append(candidate)
    return fresh


@dataclass
class _Train:
    """The state of choosing the train split."""

    store: Store
    filters: Filters
    terms: Terms
    selection: Selection
    seal: Seal
    texts: NearIndex
    hashes: set[str] = field(default_factory=set)


def _choose_train(state: _Train, task: str) -> None:
    """Corrected exchanges go first: of several with the same content, the one that a person mended is kept."""
    until = state.filters.until or float("inf")
    mended: set[str] = set()
    for batch in _with_mark(sources.corrected(state.store, task, until), mended):
        _take(state, batch)
    for batch in sources.candidates(state.store, task, until, holdout=False):
        _take(state, [candidate for candidate in batch if candidate.id not in mended])
    state.selection.train, drops = capped(state.selection.train, state.filters)
    state.selection.train_drops += drops


def _with_mark(batches: Iterator[list[Candidate]], mark: set[str]) -> Iterator[list[Candidate]]:
    for batch in batches:
        mark.update(candidate.id for candidate in batch)
        yield batch


def _take(state: _Train, batch: Sequence[Candidate]) -> None:
    drops = state.selection.train_drops
    state.selection.train_considered += len(batch)
    with state.store.read() as connection:
        found = sources.known_of(connection, batch)
        passed = []
        for one in found:
            reason = reason_against(one.candidate, one.known, state.filters, state.terms)
            reason = reason or state.seal.reason_against(one.candidate)
            reason = reason or ("duplicate" if one.candidate.content_hash in state.hashes else None)
            if reason:
                drops[reason] += 1
            else:
                passed.append(one)
        usable = _usable(sources.with_bodies(connection, passed), drops)
    for (one, _), signature in zip(usable, signatures([text for _, text in usable]), strict=True):
        reason = _likeness(state, one.candidate, signature)
        if reason:
            drops[reason] += 1
            continue
        state.hashes.add(one.candidate.content_hash)
        state.texts.add(signature)
        state.selection.train.append(_pick(one, state.terms.label))


def _likeness(state: _Train, candidate: Candidate, signature: Any) -> str | None:
    if candidate.content_hash in state.hashes:
        return "duplicate"
    if state.seal.texts.has_near(signature):
        return "near_holdout"
    return "near_duplicate" if state.texts.has_near(signature) else None


def _usable(batch: Iterable[Found], drops: Counter[str]) -> list[tuple[Found, str]]:
    """Those whose bodies make a row, each with the variable part of its prompt."""
    usable = []
    for found in batch:
        try:
            request, _ = row_parts(found)
        except UnusableError as error:
            drops[error.reason] += 1
            continue
        usable.append((replace(found, bodies=None), variable_text(request)))
    return usable


def row_parts(found: Found, *, as_answered: bool = False) -> tuple[Json, Json]:
    """The request and the target of a row: a correction's, where there is one and `as_answered` is false.

    Raises UnusableError with the reason why it can be no row.
    """
    if found.bodies is None:
        raise UnusableError(found.trouble)
    request, answer = found.bodies
    mended = None if as_answered else found.known.corrected_message
    if mended is not None:
        return chat_request(request), target_of(mended)
    if answer.error or answer.finish_reason in _CUT:
        raise UnusableError("truncated" if answer.finish_reason in _CUT else "broken_answer")
    return chat_request(request), target_of(answer.message)


def _pick(found: Found, pointer: str | None) -> Pick:
    one = found.candidate
    owners = (one.key_id, one.user, one.session, one.conversation, one.fingerprint)
    return Pick(one.id, label(found, pointer), *owners)


def label(found: Found, pointer: str | None) -> str | None:
    """The label of what the row teaches: of the correction, where it was corrected."""
    mended = found.known.corrected_message
    return found.candidate.label if mended is None else label_of(Answer(message=mended), pointer)
