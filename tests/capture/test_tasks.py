"""Tasks: rules find the most specific one; prompts get one fingerprint however they are written down."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from capture.errors import ConfigError, RefusedError
from capture.prompts import fingerprint_parts, last_user_text, masked, user_of
from capture.settings import MatchSettings, Settings, TaskSettings, TeacherSettings, UpstreamSettings
from capture.tables import tasks as table
from capture.tasks import (
    Matcher,
    conversation_key,
    fingerprint,
    load_tasks,
    save_task,
    sync_tasks,
    system_prompt,
    variable_text,
)
from tests.factories.exchanges import chat_request, json_bytes, new_exchange
from tests.factories.store import new_store

TEACHER = TeacherSettings(upstream="openai", model="gpt-4.1")


def task(**match: Any) -> TaskSettings:
    return TaskSettings(match=MatchSettings(**match), teacher=TEACHER)


MATCHER = Matcher(
    {
        "wide": task(model="gpt-4.1*"),
        "tagged": task(model="gpt-4.1*", metadata={"app": "triage"}),
        "headed": task(headers={"X-App": "mail"}),
        "keyed": task(key="key_1"),
        "printed": task(fingerprint="f" * 16),
        "bare": task(),
    }
)


@pytest.mark.parametrize(
    ("expected", "request_"),
    [
        ("wide", ("gpt-4.1-mini", {}, {}, None, None)),
        (None, ("gpt-4o", {}, {}, None, None)),
        ("tagged", ("gpt-4.1", {"app": "triage", "other": "x"}, {}, None, None)),
        ("wide", ("gpt-4.1", {"app": "Triage"}, {}, None, None)),
        ("headed", ("x", {}, {"x-app": "mail"}, None, None)),
        ("keyed", ("x", {}, {}, "key_1", None)),
        ("printed", ("x", {}, {}, None, "f" * 16)),
        ("bare", ("bare", {}, {}, None, None)),
        ("bare", ("gpt-4.1", {"app": "triage"}, {"x-stillhouse-task": "bare"}, None, None)),
        ("tagged", ("gpt-4.1", {"app": "triage"}, {"x-stillhouse-task": "unknown"}, None, None)),
        (None, ("", {}, {}, None, None)),
    ],
)
def test_matching(expected: str | None, request_: tuple[str, dict[str, str], dict[str, str], str | None, str]) -> None:
    assert MATCHER.match(*request_) == expected


def test_no_tasks_match_nothing() -> None:
    assert Matcher({}).match("gpt-4.1", {}, {}, None, None) is None


def test_system_prompts_of_both_apis() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [
        {"role": "system", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "developer", "content": parts},
    ]
    assert system_prompt({"messages": messages}) == "a\n\none\ntwo"
    assert system_prompt({"instructions": "a", "input": [{"role": "system", "content": "c"}, "odd"]}) == "a\n\nc"
    assert system_prompt({"instructions": "a", "input": "text"}) == "a"
    assert system_prompt({"messages": "odd", "instructions": 7}) == ""


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Today is Monday, November 24, 2026.", "Today is Tuesday, December 1, 2026."),
        ("Today is 24 Nov 2026.", "Today is 3 Mar 2027."),
        ("now: 2026-11-24T10:00:00Z", "now: 2027-01-01 00:00"),
        ("At most 12 words.", "At most 20 words."),
        ("for jane@corp.io", "for max.m@firm.de"),
        ("user 123e4567-e89b-12d3-a456-426614174000", "user 00000000-e89b-12d3-a456-426614174fff"),
        ("trace 9fceb02d0ae598e9", "trace 1234567890abcdef"),
        ("customer cus_9aKx02PqLmN4", "customer cus_77Zbb1QwErT9"),
        ("a  b\n\nc", "a b c"),
        ("price 1,299.00", "price 9.5"),
        ("It is 10:30 on the 3rd of May.", "It is 09:15 on the 24th of June."),
        ("at 2026-11-24 10:30:00, see", "at 2027-01-02T03:04:05.678+01:00, see"),
    ],
)
def test_fillings_do_not_change_a_prompt_s_fingerprint(one: str, two: str) -> None:
    assert masked(one) == masked(two)
    assert fingerprint(chat_request(messages=[{"role": "system", "content": one}])) == fingerprint(
        chat_request(messages=[{"role": "system", "content": two}])
    )


@pytest.mark.parametrize(
    "other",
    ["Sort the tickets.", "Sort the ticket. Be brief.", "sort the ticket.", "Sort the ticket in May.", ""],
)
def test_words_do(other: str) -> None:
    changed = chat_request(messages=[{"role": "system", "content": other}])
    assert fingerprint(changed) != fingerprint(chat_request())


def test_tools_and_schema_are_part_of_the_version_and_the_user_is_not() -> None:
    plain = fingerprint(chat_request())
    assert fingerprint(chat_request("other", user="u", temperature=1)) == plain
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    versions = {plain, fingerprint(chat_request(tools=[tool])), fingerprint(chat_request(response_format=schema))}
    assert len(versions) == 3
    response = {"instructions": "Sort the ticket.", "input": "hi"}
    assert fingerprint(response) == plain
    assert fingerprint({**response, "text": {"format": schema}}) == fingerprint(chat_request(response_format=schema))


def test_the_fast_path_over_bytes_agrees_with_the_slow_one() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"b": 1, "a": [1, 2]}}}
    request = chat_request(tools=[tool], response_format={"type": "json_object"})
    wire = b'[ {"function": {"parameters":{"a":[1, 2],"b":1}, "name":"look"}, "type":"function"} ]'
    assert fingerprint_parts("Sort the ticket.", wire, b'{ "type" : "json_object" }') == fingerprint(request)
    assert fingerprint_parts("Sort the ticket.", b"null", None) == fingerprint(chat_request())
    assert len(fingerprint_parts("", b"{broken", None)) == 16


@given(system=st.text(max_size=200), tools=st.none() | st.binary(max_size=50))
def test_any_prompt_has_a_fingerprint(system: str, tools: bytes | None) -> None:
    assert len(fingerprint_parts(system, tools, None)) == 16


def test_a_large_prompt_has_the_fingerprint_of_its_words_too() -> None:
    large = "Sort the ticket of day 7. " * 5000
    assert fingerprint_parts(large, None, None) == fingerprint_parts(large.replace("7", "8"), None, None)
    assert fingerprint_parts(large, None, None) != fingerprint_parts(large + "Be brief.", None, None)


def test_the_variable_text_is_the_last_run_of_user_turns() -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "example"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": "First  LINE"},
        {"role": "user", "content": [{"type": "text", "text": "Straße"}]},
    ]
    assert last_user_text({"messages": messages}) == "First  LINE\nStraße"
    assert variable_text({"messages": messages}) == "first line strasse"
    assert variable_text({"input": " Hi  There "}) == "hi there"
    tool_last = [*messages, {"role": "tool", "content": "result"}]
    assert variable_text({"messages": tool_last}) == "first line strasse"
    assert variable_text({}) == ""


def test_images_stand_as_markers_told_apart_by_content() -> None:
    def with_image(url: str) -> dict[str, Any]:
        part = {"type": "image_url", "image_url": {"url": url}}
        return chat_request(messages=[{"role": "user", "content": [{"type": "text", "text": "what?"}, part]}])

    one, two = (
        variable_text(with_image("data:image/png;base64,AAAA")),
        variable_text(with_image("data:image/png;base64,BBBB")),
    )
    assert one.startswith("what? [image ")
    assert one != two
    assert len(one) < 50


def test_conversations() -> None:
    def key(request: dict[str, Any], session: str | None = None) -> str:
        return conversation_key(new_exchange(session=session), request)

    assert key(chat_request("a", metadata={"session": "s1"})) == key(chat_request("b", metadata={"session": "s1"}))
    assert key({"input": "a", "conversation": "c1"}) == key({"input": "b", "conversation": {"id": "c1"}})
    assert key(chat_request("a"), "s1") == key(chat_request("b"), "s1") != key(chat_request("a"), "s2")
    assert key(chat_request("a")) == key(chat_request(" A ")) != key(chat_request("b"))
    # the user alone is no conversation: all of a user's must not fall on one side
    assert key(chat_request("a", user="u"), "u") == key(chat_request("a"))
    assert key(chat_request("a", user="u"), "u") != key(chat_request("b", user="u"), "u")


def test_users() -> None:
    assert user_of({"user": "u", "safety_identifier": "s"}) == "s"
    assert user_of({"user": "u", "safety_identifier": 3}) == "u"
    assert user_of({"user": ""}) is None


def settings(**tasks: TaskSettings) -> Settings:
    upstream = UpstreamSettings(base_url="https://api.openai.com/v1")
    return Settings(upstreams={"openai": upstream}, tasks=tasks)


def test_file_tasks_are_synchronised_and_console_tasks_saved(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    sync_tasks(store, settings(one=task(model="a"), two=task(model="b")))
    save_task(store, "three", task(model="c"))
    assert load_tasks(store) == {"one": task(model="a"), "three": task(model="c"), "two": task(model="b")}
    with pytest.raises(RefusedError, match=r"task one stands in stillhouse\.toml"):
        save_task(store, "one", task(model="x"))
    save_task(store, "three", task(model="d"))
    sync_tasks(store, settings(one=task(model="a2")))
    assert load_tasks(store) == {"one": task(model="a2"), "three": task(model="d")}
    sync_tasks(store, settings(three=task(model="e")))
    assert load_tasks(store) == {"three": task(model="e")}
    with pytest.raises(RefusedError):
        save_task(store, "three", task())
    sync_tasks(store, settings())
    assert load_tasks(store) == {}
    store.close()


def test_a_task_that_no_longer_fits_is_named(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    save_task(store, "one", task(model="a"))
    with store.write() as connection:
        connection.execute(update(table).values(settings={"unknown": 1}))
    with pytest.raises(ConfigError, match="task one: its stored settings do not fit"):
        load_tasks(store)
    store.close()


def test_what_the_wire_says_is_what_json_says() -> None:
    assert json_bytes(chat_request())[:9] == b'{"model":'
