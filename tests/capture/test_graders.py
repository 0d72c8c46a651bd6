"""Graders: what each says of hand-made outputs, and properties that hold for any."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.errors import ConfigError
from capture.exchange import Answer
from capture.graders import Sample, default_graders, make_grader
from capture.graders.similarity import METRICS
from capture.settings import GraderSettings, TaskSettings, TeacherSettings


def score(output: Any, reference: Any = None, request: dict[str, Any] | None = None, **settings: Any) -> float | None:
    grader = make_grader("g", GraderSettings(**settings))
    return grader.score(Sample(output=output, reference=reference, request=request or {}))


def fields(output: Any, reference: Any, **settings: Any) -> float | None:
    return score(output, reference, type="json_fields", **settings)


TRUTH = {"category": "billing", "priority": 2}


def test_json_fields_weighs_each_field() -> None:
    weights = {"category": 3.0, "priority": 1.0}
    assert fields('{"category": "billing", "priority": 2}', TRUTH, fields=weights) == 1
    assert fields('{"category": "billing", "priority": 3}', TRUTH, fields=weights) == 0.75
    assert fields('{"category": "billing"}', TRUTH, fields=weights) == 0.75
    assert fields("no JSON", TRUTH, fields=weights) == 0
    assert fields("[1]", TRUTH, fields=weights) == 0


def test_json_fields_takes_all_of_the_references_fields_when_none_are_named() -> None:
    assert fields('{"category": "billing", "more": 1}', TRUTH) == 0.5
    assert fields('{"a/b": 1}', {"a/b": 1}) == 1


def test_json_fields_judges_only_what_the_reference_has() -> None:
    assert (
        fields('{"category": "billing", "priority": 9}', {"category": "billing"}, fields={"category": 1, "priority": 1})
        == 1
    )
    assert fields('{"category": "billing"}', {"other": 1}, fields={"category": 1}) is None
    assert fields('{"category": "billing"}', "free text") is None
    assert fields('{"category": "billing"}', None) is None


def test_json_fields_compares_by_meaning() -> None:
    assert fields('{"a": "  Ｂilling\\n team"}', {"a": "billing TEAM"}) == 1
    assert fields('{"a": 1.0}', {"a": 1}) == 1
    assert fields('{"a": true}', {"a": 1}) == 0
    assert fields('{"a": "1"}', {"a": 1}) == 0
    assert fields('{"a": {"x": [1, "B"]}}', {"a": {"x": [1, "b"]}}) == 1
    assert fields('{"a": null}', {"a": None}) == 1
    assert fields("{}", {"a": None}) == 0
    assert fields('{"a": NaN}', {"a": 1}) == 0


def test_json_fields_reads_pointers_messages_and_answers() -> None:
    message = {"role": "assistant", "content": '{"a": {"b": 1}}'}
    assert fields(message, {"a": {"b": 1}}, fields={"/a/b": 1}) == 1
    assert fields(Answer(message=message), message) == 1


def test_a_fence_is_forgiven_only_when_the_settings_say_so() -> None:
    fenced = '```json\n{"category": "billing", "priority": 2}\n```'
    assert fields(fenced, TRUTH) == 0
    assert fields(fenced, TRUTH, fences=True) == 1


def test_json_schema_validates_and_fetches_nothing() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"enum": ["x", "y"]}}}
    assert score('{"a": "x"}', type="json_schema", json_schema=schema) == 1
    assert score('{"a": "z"}', type="json_schema", json_schema=schema) == 0
    assert score("nothing", type="json_schema", json_schema=schema) == 0
    with pytest.raises(ConfigError, match="json_schema cannot be used"):
        score("{}", type="json_schema", json_schema={"$ref": "http://127.0.0.1:9/schema.json"})
    with pytest.raises(ConfigError, match="json_schema cannot be used"):
        score("{}", type="json_schema", json_schema={"type": "nonsense"})


def test_json_schema_falls_back_on_the_requests_own() -> None:
    request = {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "integer"}}}}
    assert score("3", request=request, type="json_schema") == 1
    assert score('"3"', request=request, type="json_schema") == 0
    assert score("3", type="json_schema") is None
    broken = {"response_format": {"json_schema": {"schema": {"type": "nonsense"}}}}
    assert score("3", request=broken, type="json_schema") is None


def test_text_similarity_of_one_field() -> None:
    settings = {"type": "text_similarity", "field": "/summary"}
    assert score('{"summary": "Card declined"}', {"summary": "card  declined"}, **settings) == 1
    assert score('{"summary": "abc"}', {"summary": "xyz"}, **settings) == 0
    assert score("{}", {"summary": "xyz"}, **settings) == 0
    assert score('{"summary": "abc"}', {"category": "billing"}, **settings) is None
    assert score("abcd", "abcx", type="text_similarity") == 0.75


def test_similarity_known_values() -> None:
    output, reference = "the cat sat", "the cat sat on the mat"
    assert METRICS["rouge_1"](output, reference) == pytest.approx(2 / 3)
    assert METRICS["rouge_2"](output, reference) == pytest.approx(2 * 2 / (2 + 5))
    assert METRICS["rouge_l"](output, reference) == pytest.approx(2 / 3)
    assert METRICS["rouge_l"]("a x b y c", "a b c") == pytest.approx(0.75)
    assert METRICS["gleu"](output, reference) == pytest.approx(6 / 18)
    assert METRICS["cosine"]("a a b", "a b b") == pytest.approx(0.8)
    assert METRICS["bleu"](output, reference) == pytest.approx(2.718281828459045**-1)


@pytest.mark.parametrize("metric", METRICS)
@given(output=st.text(max_size=40), reference=st.text(max_size=40))
def test_similarity_is_a_share_and_1_for_the_same(metric: str, output: str, reference: str) -> None:
    assert 0 <= METRICS[metric](output, reference) <= 1 + 1e-12
    assert METRICS[metric](reference, reference) == pytest.approx(1)


def test_similarity_of_enormous_texts_is_taken_over_their_beginning() -> None:
    assert score("a" * 5_000_000, "a" * 5_000_000 + "b", type="text_similarity") == 1
    assert score("a b " * 1_000_000, "a b " * 1_000_000, type="text_similarity", metric="rouge_2") == 1


def test_string_check_operations() -> None:
    def check(operation: str, output: str, reference: str) -> float | None:
        return score(output, reference, type="string_check", operation=operation)

    assert [check("eq", "a", "a"), check("eq", "a", "A"), check("ne", "a", "A")] == [1, 0, 1]
    assert [check("like", "say Yes", "Yes"), check("like", "say Yes", "yes"), check("ilike", "say Yes", "yes")] == [
        1,
        0,
        1,
    ]
    assert score('{"c": "x"}', {"c": "x"}, type="string_check", field="/c") == 1
    assert score("{}", {"c": "x"}, type="string_check", field="/c") == 0


def calls(*pairs: tuple[str, Any]) -> dict[str, Any]:
    made = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in pairs]
    return {"role": "assistant", "content": None, "tool_calls": made}


def test_tool_calls_compare_name_and_arguments() -> None:
    def check(output: Any, reference: Any) -> float | None:
        return score(output, reference, type="tool_calls")

    wanted = calls(("find", '{"city": "Bonn", "days": 3}'))
    assert check(calls(("find", '{"days": 3.0, "city": "bonn"}')), wanted) == 1
    assert check(calls(("find", '{"days": 3}')), wanted) == 0.75
    assert check(calls(("seek", '{"days": 3}')), wanted) == 0
    assert check(calls(("find", "{broken")), wanted) == 0.5
    assert check(calls(("find", "{broken")), calls(("find", "{broken"))) == 1
    assert check("no call", wanted) == 0
    assert check(calls(("find", '{"city": "Bonn", "days": 3}'), ("find", "{}")), wanted) == 0.5
    assert check("text", "other text") == 1


def test_heuristics_find_their_fault() -> None:
    assert score("I’m sorry, but I can't help with that.", type="refusal") == 0
    assert score({"role": "assistant", "content": None, "refusal": "No."}, type="refusal") == 0
    assert score("I am sorry to hear it. Your card works again.", type="refusal") == 1
    cut = Answer(message={"role": "assistant", "content": "and then"}, finish_reason="length")
    assert score(cut, type="truncation") == 0
    assert score("whole", type="truncation") == 1
    assert score("  \n", type="empty") == 0
    assert score(calls(("f", "{}")), type="empty") == 1
    assert score("on and on and on and on and on and on and on and on and on", type="repetition") == 0
    assert score("A plain sentence of some ten words that says one thing.", type="repetition") == 1


def test_version_changes_with_the_settings_alone() -> None:
    first = make_grader("a", GraderSettings(type="json_fields", fields={"x": 1}))
    assert first.version == make_grader("b", GraderSettings(type="json_fields", fields={"x": 1})).version
    assert first.version != make_grader("a", GraderSettings(type="json_fields", fields={"x": 2})).version


@pytest.mark.parametrize("kind", ["classification", "extraction", "text", "tools"])
def test_every_kind_of_task_has_graders(kind: Any) -> None:
    task = TaskSettings(kind=kind, teacher=TeacherSettings(upstream="u", model="m"), label="/category")
    graders = default_graders(task)
    assert [settings.against for settings in graders.values()] == ["teacher", "truth"]
    assert all(make_grader(name, settings).needs_reference for name, settings in graders.items())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(output=json_values, reference=json_values)
def test_json_fields_is_a_share_and_1_for_the_same(output: Any, reference: Any) -> None:
    value = fields(json.dumps(output), reference)
    assert value is None or 0 <= value <= 1
    if isinstance(reference, dict) and reference:
        assert fields(json.dumps(reference), reference) == 1


def by_templates(output: Any, other: Any, request: dict[str, Any] | None = None, **settings: Any) -> float | None:
    grader = make_grader("g", GraderSettings(type="string_check", **settings))
    return grader.score(Sample(output=output, reference=other, request=request or {}))


def test_templates_say_what_is_compared() -> None:
    asked = {"messages": [{"role": "user", "content": "Where is order 7?"}]}
    given: dict[str, Any] = {"input": "{{sample.output_json.id}}"}
    assert by_templates('{"id": 7}', "7", asked, **given, reference="{{ item.reference }}") == 1
    assert by_templates('{"id": 7}', None, asked, **given, reference="{{item.reference}}") is None
    assert by_templates('{"id": 7}', None, asked, **given, reference="7") == 1
    assert by_templates("no JSON", "7", asked, **given) == 0
    assert by_templates("x", None, asked, operation="like", input="{{item.input}}", reference="7?") == 1
    with pytest.raises(ConfigError, match="nothing is called"):
        by_templates("x", "y", input="{{item.label}}")
    with pytest.raises(ConfigError, match="its input is one text"):
        by_templates("x", "y", input=[{"role": "user", "content": "x"}])


def test_openais_names_and_thresholds() -> None:
    given: dict[str, Any] = {"type": "text_similarity", "evaluation_metric": "cosine", "name": "likeness"}
    assert score("a b", "a c", **given) == pytest.approx(0.5)
    assert score("a b", "a c", **given, pass_threshold=0.4) == 1
    assert score("a b", "a c", **given, pass_threshold=0.6) == 0
    settings = GraderSettings.model_validate(given)
    assert GraderSettings.model_validate(settings.model_dump()) == settings


def test_meteor() -> None:
    assert METRICS["meteor"]("the cat sat", "the cat sat") == 1
    assert METRICS["meteor"]("dog", "cat") == 0
    assert METRICS["meteor"]("sat the cat", "the cat sat") == pytest.approx(1 - 0.5 * (2 / 3) ** 3)
    assert METRICS["meteor"]("the cat", "the cat sat") == pytest.approx(10 * 2 / 3 / (2 / 3 + 9) * (1 - 0.5 / 8))


def test_language() -> None:
    german = {"messages": [{"role": "user", "content": "Wo ist die Rechnung und warum ist sie nicht da?"}]}
    assert score("Die Rechnung ist auf dem Weg und kommt mit der Post.", request=german, type="language") == 1
    assert score("The invoice is on the way and it is with you soon.", request=german, type="language") == 0
    assert score("The invoice is on the way to you.", request=german, type="language", languages=["en"]) == 1
    assert score("42", request=german, type="language") is None


PARTS = {"same": {"type": "string_check"}, "like": {"type": "text_similarity"}}


def test_multi_calculates() -> None:
    given: dict[str, Any] = {"type": "multi", "graders": PARTS}
    assert score("a", "a", **given, calculate_output="0.5 * same + like ^ 2 / 2") == 1
    assert score("ab", "ac", **given, calculate_output="max(same, like)") == 0.5
    assert score("ab", "ac", **given, calculate_output="10 * like - 1") == 1
    assert score("ab", "ac", **given, calculate_output="like / same") is None
    assert score("ab", None, **given, calculate_output="like") is None


@pytest.mark.parametrize(
    "formula",
    [
        "same.real",
        "__import__('os')",
        "same if like else 1",
        "[same]",
        "'a' * 9",
        "same and like",
        "same // 2",
        "max(same)",
        "sqrt(same, like)",
        "max(*same)",
        "lambda: same",
        "other",
        "1 + 1",
        "same +",
        "(" * 900,
        "same" + "+1" * 600,
        "-" * 950 + "same",
        "[" + "-" * 480 + "same]",
    ],
)
def test_a_formula_is_arithmetic_over_its_parts_alone(formula: str) -> None:
    with pytest.raises(ConfigError, match="grader 'g': calculate_output"):
        score("a", "a", type="multi", graders=PARTS, calculate_output=formula)


@pytest.mark.parametrize(
    "formula", ["9 ^ 99 * same", "sqrt(same - 2)", "exp(9999) * same", "log(same - 1)", "(-2) ^ 0.5 * same"]
)
def test_a_formula_without_a_value_gives_no_score(formula: str) -> None:
    assert score("a", "a", type="multi", graders=PARTS, calculate_output=formula) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "python"}, "needs source"),
        ({"type": "multi"}, "needs graders, calculate_output"),
        ({"type": "score_model", "model": "m"}, "needs upstream, input"),
        ({"type": "empty", "range": [1, 0]}, "range must rise"),
        ({"type": "empty", "labels": ["a"], "passing_labels": ["b"]}, "names 'b'"),
    ],
)
def test_half_a_grader_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraderSettings.model_validate(settings)
