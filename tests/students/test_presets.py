"""What rollouts are guarded by when nothing is named, by kind of task, and where targets come from."""

from pathlib import Path

import pytest

from capture.errors import RefusedError
from capture.exchange import Answer
from capture.settings import GuardrailSettings, RolloutSettings, TaskSettings, TeacherSettings
from students.comparison import Case, compare
from students.pace import teacher_pace
from students.presets import BUILT_IN, BY_KIND, Pace, built_in_judges, guardrails_of
from students.rollout_start import frozen_policy
from tests.factories.store import add_exchange, new_store

TEACHER = TeacherSettings(upstream="u", model="m")
SLOW = Pace(first_ms=4_000.0, duration_ms=6_000.0, cost_usd=0.01)


@pytest.mark.parametrize("kind", ["classification", "extraction", "text", "tools"])
def test_every_kind_has_its_guardrails_and_the_quality_comes_first(kind: str) -> None:
    found = guardrails_of(kind, RolloutSettings(margin=0.1), ["agreement"], SLOW)
    assert next(iter(found)) == "agreement"
    assert found["agreement"].smallest == 0.1
    assert {*BY_KIND[kind], "errors", "fallbacks", "first_event", "cost", "feedback"} < set(found)
    assert found["first_event"].target == 6_000.0
    assert found["cost"].target == 0.02


def test_what_is_not_known_of_the_teacher_is_not_guarded_by_default() -> None:
    found = guardrails_of("text", RolloutSettings(), ["a"], Pace())
    assert not {"first_event", "cost"} & set(found)
    assert guardrails_of("text", RolloutSettings(deadline_s=3), ["a"], Pace())["first_event"].target == 3_000.0
    assert guardrails_of("text", RolloutSettings(), ["a"], Pace(first_ms=10.0))["first_event"].target == 2_000.0


def test_named_guardrails_stand_alone_and_get_the_teachers_targets() -> None:
    named = RolloutSettings(guardrails={"latency": {"smallest": 0.05}, "stars": {}})
    assert guardrails_of("text", named, ["a"], SLOW) == {
        "latency": GuardrailSettings(smallest=0.05, target=9_000.0),
        "stars": GuardrailSettings(),
    }
    own = RolloutSettings(guardrails={"latency": {"target": 700}})
    assert guardrails_of("text", own, ["a"], Pace())["latency"].target == 700


@pytest.mark.parametrize("metric", ["latency", "first_event", "cost"])
def test_a_guardrail_without_a_target_is_refused_where_none_can_be_taken(metric: str) -> None:
    with pytest.raises(RefusedError, match=f"guardrails.{metric} needs a target"):
        guardrails_of("text", RolloutSettings(guardrails={metric: {}}), ["a"], Pace())


def test_the_frozen_policy_has_everything_written_out() -> None:
    task = TaskSettings(kind="tools", teacher=TEACHER, rollout=RolloutSettings(slices={"tier": "/metadata/tier"}))
    frozen = frozen_policy(task.rollout, task, SLOW)
    assert frozen.gates == ("agreement",)
    assert "schema" in frozen.guardrails
    assert frozen.slices == {"tier": "/metadata/tier"}


def test_a_built_in_metric_may_be_a_gate() -> None:
    task = TaskSettings(teacher=TEACHER)
    assert frozen_policy(RolloutSettings(gates=("schema",)), task, Pace()).gates == ("schema",)
    with pytest.raises(RefusedError, match="no grader"):
        frozen_policy(RolloutSettings(gates=("nobody",)), task, Pace())


def test_built_in_judges_score_both_sides_as_they_are() -> None:
    judges = built_in_judges(TaskSettings(teacher=TEACHER), [*BUILT_IN, "agreement"])
    assert [judge.name for judge in judges] == list(BUILT_IN)
    schema = {"type": "object", "required": ["a"]}
    request = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    good, empty = Answer(message={"content": '{"a": 1}'}), Answer(message={"content": ""})
    found = compare(judges, Case(request, teacher=good, student=empty)).differences
    assert found == {"refusals": 0.0, "schema": -1.0, "truncations": 0.0, "empty_answers": -1.0, "repetitions": 0.0}


def test_a_grader_of_the_tasks_own_goes_before_the_built_in_of_that_name() -> None:
    task = TaskSettings(teacher=TEACHER, graders={"schema": {"type": "json_schema"}})
    assert built_in_judges(task, ["schema"]) == []


def test_the_teachers_pace_is_that_of_its_last_good_answers(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    assert teacher_pace(store, "triage") == Pace()
    for number in range(100):
        add_exchange(store, first_ms=float(number), duration_ms=2.0 * number, cost_usd=0.02 if number % 2 else None)
    add_exchange(store, first_ms=1e9, duration_ms=1e9, status=500)
    add_exchange(store, first_ms=1e9, duration_ms=1e9, arm="student")
    assert teacher_pace(store, "triage") == Pace(95.0, 190.0, pytest.approx(0.02))
    store.close()


def test_a_judge_gates_only_with_a_licence_and_never_alone() -> None:
    judge = {"type": "score_model", "upstream": "u", "model": "m", "input": "Grade {{ sample.output_text }}"}
    graders = {"tone": judge, "category": {"type": "json_fields"}}
    task = TaskSettings.model_validate({"teacher": TEACHER, "graders": graders, "judges": {"upstreams": ["u"]}})
    with pytest.raises(RefusedError, match="a judge alone never promotes"):
        frozen_policy(RolloutSettings(), task, Pace(), licensed=["tone"])
    both = RolloutSettings(gates=("category", "tone"))
    with pytest.raises(RefusedError, match="judge tone has no licence"):
        frozen_policy(both, task, Pace())
    assert frozen_policy(both, task, Pace(), licensed=["tone"]).gates == ("category", "tone")
    guarded = RolloutSettings(gates=("category",), guardrails={"tone": GuardrailSettings()})
    with pytest.raises(RefusedError, match="judge tone has no licence to gate or to guard"):
        frozen_policy(guarded, task, Pace())
    assert frozen_policy(guarded, task, Pace(), licensed=["tone"]).guardrails.keys() == {"tone"}
