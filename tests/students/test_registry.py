"""Students by name and id, made once; and the wish to have one served."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.db import Store, metadata, open_store
from capture.errors import ConfigError, NotFoundError, RefusedError
from capture.settings import TaskSettings, TeacherSettings, UpstreamSettings, ViewSettings
from students import registry, rollout_start, steering
from students.registry import Student, Training


def clock() -> float:
    return 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path / 'stillhouse.db'}")
    metadata.create_all(store.engine)
    yield store
    store.close()


def local(store: Store, fine_tune: str = "ftjob-1") -> Student:
    made = Training(fine_tune, "triage", "tiny", "ds_1", "students/1", "w", ViewSettings(), ["b", "a"], tools=False)
    return registry.register_local(store, made, clock)


def test_one_student_a_fine_tune_under_openais_kind_of_name(store: Store) -> None:
    student = local(store)
    assert local(store) == student
    assert local(store, "ftjob-2").id != student.id
    assert student.name.startswith("ft:tiny:triage:")
    assert student.fingerprints == {"a", "b"}
    assert registry.load_student(store, student.name) == registry.load_student(store, student.id) == student


def test_a_base_is_one_student_a_task(store: Store) -> None:
    base = registry.ensure_base(store, "triage", "tiny", ViewSettings(), clock)
    assert registry.ensure_base(store, "triage", "tiny", ViewSettings(), clock) == base
    assert registry.ensure_base(store, "other", "tiny", ViewSettings(), clock).id != base.id
    assert [student.kind for student in registry.list_students(store, "triage")] == ["base"]


def test_students_at_an_upstream_of_the_file_only(store: Store) -> None:
    upstreams = {"vllm": UpstreamSettings(base_url="http://10.0.0.1/v1")}
    student = registry.register_upstream(store, "triage", "lora-1", ("vllm", upstreams), ViewSettings(), clock)
    assert (student.kind, student.upstream_model) == ("registered", "lora-1")
    assert registry.want(store, student.id, clock) is False
    with pytest.raises(ConfigError, match="no upstream"):
        registry.register_upstream(store, "triage", "lora-1", ("elsewhere", upstreams), ViewSettings(), clock)


def test_wanted_until_told_otherwise(store: Store) -> None:
    student = local(store)
    assert registry.server_of(store, student.id) is None
    assert registry.want(store, student.id, clock) is True
    assert registry.want(store, student.id, clock) is False
    server = registry.server_of(store, student.id)
    assert server is not None
    assert not server.ready
    registry.unwant(store, student.id)
    assert registry.want(store, student.id, clock) is True


def test_a_student_with_a_live_rollout_stays_served(store: Store) -> None:
    student = local(store)
    task = TaskSettings(teacher=TeacherSettings(upstream="x", model="y"))
    begin = rollout_start.Start("triage", student.id, "tester", reason="a test", force=True)
    rollout = rollout_start.start(store, begin, task, clock)
    with pytest.raises(RefusedError, match=rollout.id):
        registry.unwant(store, student.id)
    registry.unwant_if_idle(store, student.id)
    assert registry.want(store, student.id, clock) is False
    steering.abort(store, rollout.id, "tester", "enough", clock)
    registry.unwant(store, student.id)


def test_strangers_are_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError):
        registry.load_student(store, "nobody")
    with pytest.raises(NotFoundError):
        registry.want(store, "nobody", clock)


def test_two_students_of_one_name_are_refused_and_nothing_is_hidden(store: Store) -> None:
    upstream = UpstreamSettings(base_url="http://10.0.0.1/v1")
    registry.register_upstream(store, "triage", "c", ("a/b", {"a/b": upstream}), ViewSettings(), clock)
    with pytest.raises(RefusedError, match="another student answers under 'a/b/c:triage'"):
        registry.register_upstream(store, "triage", "b/c", ("a", {"a": upstream}), ViewSettings(), clock)
    assert len(registry.list_students(store)) == 1
