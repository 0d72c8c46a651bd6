"""Verbs of better targets: rows answered anew by another model, and builds that take a student's misses first."""

import msgspec

from capture import datasets
from capture.datasets.filters import Relabel
from capture.errors import NotFoundError, RefusedError
from console.access import Desk, Role
from students import registry
from students.relabelling import misses


def relabel(desk: Desk, dataset: str, at: tuple[str, str], samples: int = 1, system: str | None = None) -> str:
    """Queues a dataset with the rows of another, answered anew by the model `at` (upstream, model). Returns its id."""
    desk.demand(Role.OPERATOR, "relabelling a dataset")
    card = datasets.load_card(desk.store, datasets.resolve(desk.store, dataset))
    upstream, model = at
    known = desk.settings.upstreams.get(upstream)
    if known is None:
        raise NotFoundError(f"no upstream {upstream!r} in stillhouse.toml")
    if not known.training_allowed:
        raise RefusedError(f"upstreams.{upstream} has training_allowed = false: its answers may not train")
    if card.state != "ready" or not 1 <= samples <= 16:
        raise RefusedError(f"{card.name} is {card.state}: it must be ready; and samples must lie between 1 and 16")
    wanted = Relabel(of=card.id, upstream=upstream, model=model, samples=samples, system=system)
    filters = msgspec.structs.replace(msgspec.convert(card.filters, datasets.Filters), relabel=wanted)
    with desk.whole() as own:
        dataset_id = datasets.queue_build(own.store, card.task, filters, own.clock)
        own.record("datasets.relabel", dataset_id, of=card.id, upstream=upstream, model=model, samples=samples)
    return dataset_id


def build_from_misses(desk: Desk, task: str, student: str | None, max_rows: int) -> str:
    """Queues a build that takes what a student (by default the task's newest) failed on before all other rows."""
    desk.demand(Role.OPERATOR, "building a dataset")
    learnt = [one for one in registry.list_students(desk.store, task) if one.kind != "base"]
    if student is None and not learnt:
        raise RefusedError(f"task {task} has no student yet, so nothing was missed")
    found = learnt[0] if student is None else registry.load_student(desk.store, student)
    missed = misses(desk.store, found.id)
    if not missed:
        raise RefusedError(f"{found.name} has failed on nothing that is known: evaluate it, or let it shadow")
    filters = datasets.Filters(first=missed, misses_of=found.id, max_rows=max_rows)
    with desk.whole() as own:
        dataset_id = datasets.queue_build(own.store, task, filters, own.clock)
        own.record("datasets.build", dataset_id, task=task, misses_of=found.id, misses=len(missed))
    return dataset_id
