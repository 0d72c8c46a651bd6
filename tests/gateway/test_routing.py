import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capture.exchange import Arm, Assignment
from capture.keys import Key, KeyLimits, digest_of
from capture.tasks import fingerprint
from gateway.arms import Arms
from gateway.auth import Gate
from gateway.breaker import Breakers
from gateway.capacity import Capacity
from gateway.limits import Limiter
from gateway.plan import Plan, Refusal, Surface
from gateway.routing import Router
from gateway.snapshot import Snapshot
from gateway.tally import Tally
from gateway.usage import UsagePages
from students.heavy_keys import HeavyKeys
from students.view import StudentFacts
from tests.factories.routing import (
    NOW,
    PEPPER,
    VIEW,
    Fixed,
    Time,
    head_of,
    rollout_of,
    router_of,
    settings_of,
    snapshot_of,
    student_of,
    with_rollouts,
)

Request = dict[str, Any]


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return snapshot_of(settings_of(tmp_path))


def chat(**fields: Any) -> Request:
    return {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hello"}], **fields}


def planned(router: Router, body: Request | bytes, target: str = "/v1/chat/completions", **headers: str) -> Plan:
    plan = router.plan(head_of(target, **headers), body if isinstance(body, bytes) else json.dumps(body).encode())
    assert isinstance(plan, Plan), plan
    return plan


def refused(router: Router, body: Request | bytes, target: str = "/v1/chat/completions", **headers: str) -> Refusal:
    plan = router.plan(head_of(target, **headers), body if isinstance(body, bytes) else json.dumps(body).encode())
    assert isinstance(plan, Refusal), plan
    return plan


def headers_of(plan: Plan) -> dict[bytes, bytes]:
    return dict(plan.leg.headers)


@pytest.mark.parametrize(
    ("method", "path", "surface"),
    [
        ("POST", "/v1/chat/completions", Surface.CAPTURED),
        ("POST", "/v1/responses", Surface.CAPTURED),
        ("GET", "/v1/responses/resp_1", Surface.PASSED),
        ("POST", "/v1/responses/resp_1/cancel", Surface.PASSED),
        ("POST", "/v1/embeddings", Surface.PASSED),
        ("POST", "/v1/files", Surface.LOCAL),
        ("GET", "/v1/files/file-abc", Surface.PASSED),
        ("GET", "/v1/files/file-0123456789abcdef0123456789abcdef", Surface.LOCAL),
        ("DELETE", "/v1/models/ft:x", Surface.PASSED),
        ("GET", "/v1/models", Surface.LOCAL),
        ("GET", "/v1/models/a/b", Surface.LOCAL),
        ("GET", "/v1/chat/completions", Surface.LOCAL),
        ("POST", "/v1/chat/completions/chatcmpl-1", Surface.LOCAL),
        ("GET", "/v1/chat/completions/chatcmpl-1/messages", Surface.LOCAL),
        ("POST", "/feedback", Surface.LOCAL),
        ("GET", "/healthz", Surface.LOCAL),
        ("GET", "/v1", Surface.LOCAL),
        ("GET", "/", Surface.LOCAL),
    ],
)
def test_surfaces(snapshot: Snapshot, method: str, path: str, surface: Surface) -> None:
    assert router_of(snapshot).surface(method, path) is surface


def test_bytes_pass_as_sent(snapshot: Snapshot) -> None:
    body = b'{ "model":"gpt-4.1",\n "messages":[{"role":"user","content":"h\\u00e9"}] , "new_field": 1.0}'
    plan = planned(router_of(snapshot), body, "/v1/chat/completions?x=1", authorization="Bearer sk-c")
    assert plan.leg.body is body
    assert (plan.leg.target, plan.leg.address.host) == ("/v1/chat/completions?x=1", "api.example.com")
    assert headers_of(plan) == {b"authorization": b"Bearer sk-c"}
    assert (plan.captured, plan.route, plan.task, plan.arm) == (True, "chat.completions", None, Arm.TEACHER)


def test_responses_bodies_are_never_touched(snapshot: Snapshot) -> None:
    body = json.dumps({"model": "gpt-4.1", "input": "x", "metadata": {"app": "triage"}}).encode()
    plan = planned(router_of(snapshot), body, "/v1/responses")
    assert plan.leg.body is body
    assert (plan.task, plan.route) == ("triage", "responses")


@pytest.mark.parametrize(("store", "kept"), [(True, True), (False, False), (None, False), ("absent", False)])
def test_chat_metadata_goes_upstream_only_with_store(snapshot: Snapshot, store: Any, kept: bool) -> None:
    body = chat(metadata={"app": "triage"}) | ({} if store == "absent" else {"store": store})
    plan = planned(router_of(snapshot), body)
    assert json.loads(plan.leg.body or b"") == {k: v for k, v in body.items() if kept or k != "metadata"}
    assert (plan.task, plan.store) == ("triage", store is True)


def test_a_tasks_name_is_a_model_name(snapshot: Snapshot) -> None:
    plan = planned(router_of(snapshot), b'{"model" : "extract" , "messages":[]}', authorization="Bearer sk-c")
    assert plan.leg.body == b'{"model" : "big" , "messages":[]}'
    assert (plan.task, plan.model, plan.leg.served_model) == ("extract", "extract", "big")
    assert plan.leg.address.upstream == "local"
    assert headers_of(plan) == {b"authorization": b"Bearer local-secret"}


def test_a_tasks_name_is_renamed_in_responses_too(snapshot: Snapshot) -> None:
    plan = planned(router_of(snapshot), b'{"input":"x","model":"triage"}', "/v1/responses")
    assert plan.leg.body == b'{"input":"x","model":"gpt-4.1"}'


def test_tasks_by_header_and_by_rule(snapshot: Snapshot) -> None:
    router = router_of(snapshot)
    assert planned(router, chat(), x_stillhouse_task="triage").task == "triage"
    assert planned(router, chat(), x_app="extract").task == "extract"
    assert planned(router, chat(metadata={"app": "triage"})).task == "triage"
    assert planned(router, chat(metadata={"app": 3})).task is None
    assert refused(router, chat(), x_stillhouse_task="nope").code == "task_not_found"


def test_models_choose_upstreams(snapshot: Snapshot) -> None:
    router = router_of(snapshot)
    plan = planned(router, chat(model="az-gpt"), authorization="Bearer sk-c", cookie="c=1")
    assert plan.leg.target == "/openai/deployments/az-gpt/chat/completions?api-version=2024-10-21"
    assert headers_of(plan) == {b"api-key": b"azure-secret"}
    refusal = refused(router, chat(model="llama"))
    assert (refusal.status, refusal.code, refusal.param) == (404, "model_not_found", "model")


def test_a_nested_base_url_changes_nothing(snapshot: Snapshot) -> None:
    body = chat(base_url="http://evil.example", extra={"api_base": "http://evil.example", "host": "evil.example"})
    assert planned(router_of(snapshot), body).leg.address.host == "api.example.com"


def test_an_upstream_without_its_key_is_said_to_be_so(snapshot: Snapshot) -> None:
    refusal = refused(router_of(replace(snapshot, secrets={})), chat(model="az-gpt"))
    assert (refusal.status, refusal.code) == (503, "no_upstream_key")


def test_our_headers_stay_here_and_tell_session_and_capture(snapshot: Snapshot) -> None:
    plan = planned(
        router_of(snapshot),
        chat(user="u1"),
        x_stillhouse_session="s1",
        x_stillhouse_capture="off",
        x_stillhouse_key="k",
    )
    assert headers_of(plan) == {}
    assert (plan.session, plan.opted_out, plan.captured) == ("s1", True, True)


@pytest.mark.parametrize(
    ("fields", "session"),
    [
        ({}, None),
        ({"safety_identifier": "i"}, "i"),
        ({"user": "u", "safety_identifier": "i"}, "u"),
        ({"conversation": "c", "user": "u"}, "c"),
        ({"conversation": {"id": "c2"}}, "c2"),
        ({"metadata": {"session": "s"}, "user": "u"}, "s"),
        ({"metadata": {"conversation": "mc"}}, "mc"),
        ({"user": 3, "metadata": "odd"}, None),
        ({"user": "u" * 1000}, "u" * 256),
    ],
)
def test_the_session_is_what_the_body_says(snapshot: Snapshot, fields: Request, session: str | None) -> None:
    assert planned(router_of(snapshot), chat(**fields)).session == session


def test_the_fingerprint_is_captures_own_where_a_rollout_asks_for_it(snapshot: Snapshot) -> None:
    router = router_of(with_rollouts(snapshot, rollout_of()))
    for n in range(3):
        body = chat(metadata={"app": "triage"}, response_format={"type": "json_object"})
        body["messages"] = [
            {"role": "developer", "content": [{"type": "text", "text": "Sort these."}]},
            {"role": "user", "content": f"ticket {n}"},
        ]
        assert planned(router, body).fingerprint == fingerprint(body)
    responses = {"model": "gpt-4.1", "instructions": "Sort.", "input": "x", "metadata": {"app": "triage"}}
    assert planned(router, responses, "/v1/responses").fingerprint == fingerprint(responses)
    assert planned(router, chat()).fingerprint is None
    assert planned(router_of(snapshot), body).fingerprint is None


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b"null"])
def test_what_is_no_json_is_refused(snapshot: Snapshot, body: bytes) -> None:
    assert refused(router_of(snapshot), body).status == 400


def test_compressed_bodies_pass_as_they_are_and_are_understood(snapshot: Snapshot) -> None:
    router = router_of(snapshot)
    plain = json.dumps(chat(store=True, metadata={"app": "triage"})).encode()
    packed = gzip.compress(plain)
    plan = planned(router, packed, content_encoding="gzip")
    assert plan.leg.body is packed
    assert headers_of(plan) == {b"content-encoding": b"gzip"}
    assert plan.task == "triage"
    edited = planned(router, gzip.compress(json.dumps(chat(model="triage")).encode()), content_encoding="gzip")
    assert json.loads(edited.leg.body or b"") == chat()
    assert headers_of(edited) == {}
    assert refused(router, packed, content_encoding="br").status == 415
    assert refused(router, plain, content_encoding="gzip").status == 400


def test_passed_routes_go_to_the_default_upstream(snapshot: Snapshot) -> None:
    plan = router_of(snapshot).plan(head_of("/v1/files?limit=2", "GET", authorization="Bearer sk-c"), None)
    assert isinstance(plan, Plan)
    assert (plan.leg.method, plan.leg.target, plan.leg.body) == ("GET", "/v1/files?limit=2", None)
    assert (plan.captured, headers_of(plan)) == (False, {b"authorization": b"Bearer sk-c"})


def test_escapes_in_paths_are_no_way_around(snapshot: Snapshot) -> None:
    router = router_of(snapshot)
    assert planned(router, chat(), "/v1/chat%2Fcompletions").leg.target == "/v1/chat/completions"
    assert isinstance(router.plan(head_of("/%761/files", "GET"), None), Refusal)


# keys


def keys_of(**overrides: Any) -> dict[str, Key]:
    known: dict[str, Any] = {"tasks": (), "limits": KeyLimits(), "expires_at": None, "revoked_at": None}
    key = Key(id="key_1", name="app", prefix="sh-tok", created_at=NOW, **known | overrides)
    return {digest_of("sh-token", PEPPER): key}


def test_with_keys_required_each_request_needs_one(snapshot: Snapshot) -> None:
    router = router_of(snapshot, keys=keys_of())
    assert refused(router, chat()).status == 401
    assert planned(router, chat(), x_stillhouse_key="sh-token", authorization="Bearer sk-c").key_id == "key_1"
    passed = router.plan(head_of("/v1/files", "GET"), None)
    assert isinstance(passed, Refusal)
    assert passed.status == 401
    assert isinstance(router.admit(()), Refusal)


class Counted(dict[str, Key]):
    """Keys by digest, and how often one was looked up."""

    looked_up = 0

    def get(self, digest: str, default: Any = None) -> Any:
        self.looked_up += 1
        return super().get(digest, default)


def test_a_key_is_looked_up_once_for_head_and_body_unless_the_snapshot_is_a_new_one(snapshot: Snapshot) -> None:
    keys, clock, breakers = Counted(keys_of()), Time(), Breakers({}, Time())
    snapshots = Fixed(replace(snapshot, keys=keys))
    arms = Arms(Capacity(1, clock), HeavyKeys(), Tally(), breakers)
    router = Router(snapshots, Gate("required", PEPPER), Limiter(UsagePages(), clock), arms, breakers, clock)
    heads = [head_of(x_stillhouse_key="sh-token") for _ in range(3)]
    assert [router.screen(head) for head in heads] == [None] * 3
    for head in heads[:2]:
        assert isinstance(router.plan(head, json.dumps(chat()).encode()), Plan)
    assert keys.looked_up == 3
    snapshots.current = replace(snapshots.current, keys={})
    refusal = router.plan(heads[2], json.dumps(chat()).encode())
    assert isinstance(refusal, Refusal)
    assert refusal.status == 401


def test_a_head_that_is_sent_again_is_let_in_by_the_keys_of_now(snapshot: Snapshot) -> None:
    clock = Time()
    router = router_of(snapshot, keys=keys_of(expires_at=NOW + 10), clock=clock)
    head, body = head_of(x_stillhouse_key="sh-token"), json.dumps(chat(model="extract")).encode()
    first, again = router.plan(head, body), router.plan(head, body)
    assert isinstance(first, Plan)
    assert isinstance(again, Plan)
    assert again.leg == first.leg
    clock.now = NOW + 10
    expired = router.plan(head, body)
    assert isinstance(expired, Refusal)
    assert expired.status == 401


def test_a_head_that_is_sent_again_gets_the_secret_of_now_and_the_upstream_of_its_model(snapshot: Snapshot) -> None:
    snapshots, clock, breakers = Fixed(snapshot), Time(), Breakers({}, Time())
    arms = Arms(Capacity(1, clock), HeavyKeys(), Tally(), breakers)
    router = Router(snapshots, Gate("off", b""), Limiter(UsagePages(), clock), arms, breakers, clock)
    head = head_of(authorization="Bearer sk-c")
    sent = []
    for model, secret in (("extract", "one"), ("extract", "two"), ("az-gpt", "two"), ("gpt-4.1", "two")):
        snapshots.current = replace(snapshot, secrets={"local": secret, "azure": "a"})
        plan = router.plan(head, json.dumps(chat(model=model)).encode())
        assert isinstance(plan, Plan)
        sent.append(plan.leg.headers)
    assert sent == [
        ((b"authorization", b"Bearer one"),),
        ((b"authorization", b"Bearer two"),),
        ((b"api-key", b"a"),),
        ((b"authorization", b"Bearer sk-c"),),
    ]


def test_a_gateway_key_never_leaves(snapshot: Snapshot) -> None:
    router = router_of(snapshot, keys=keys_of())
    plan = planned(router, chat(model="extract"), authorization="Bearer sh-token")
    assert headers_of(plan) == {b"authorization": b"Bearer local-secret"}
    refusal = refused(router, chat(), authorization="Bearer sh-token")
    assert (refusal.status, "x-stillhouse-key" in refusal.message) == (401, True)


def test_a_scoped_key_reaches_its_tasks_alone(snapshot: Snapshot) -> None:
    router = router_of(snapshot, keys=keys_of(tasks=("triage",)))
    assert planned(router, chat(model="triage"), x_stillhouse_key="sh-token").task == "triage"
    assert refused(router, chat(model="extract"), x_stillhouse_key="sh-token").code == "task_not_allowed"
    assert refused(router, chat(), x_stillhouse_key="sh-token").status == 403
    passed = router.plan(head_of("/v1/files", "GET", x_stillhouse_key="sh-token"), None)
    assert isinstance(passed, Refusal)


def test_limits_hold_and_a_refused_request_takes_nothing(snapshot: Snapshot) -> None:
    router = router_of(snapshot, keys=keys_of(limits=KeyLimits(concurrency=1)))
    assert refused(router, chat(model="nope"), x_stillhouse_key="sh-token").status == 404
    plan = planned(router, chat(), x_stillhouse_key="sh-token")
    assert refused(router, chat(), x_stillhouse_key="sh-token").status == 429
    for release in plan.release:
        release()
    planned(router, chat(), x_stillhouse_key="sh-token")


# students


def test_a_students_name_reaches_it_directly(snapshot: Snapshot) -> None:
    student = student_of()
    router = router_of(with_rollouts(snapshot, rollout_of(student, share=0.0)))
    body = chat(model=student.name, reasoning_effort="low", max_completion_tokens=5)
    plan = planned(router, body, authorization="Bearer sk-c")
    assert json.loads(plan.leg.body or b"") == {
        "model": "served-small",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 5,
    }
    assert (plan.leg.address.port, plan.leg.target) == (9600, "/v1/chat/completions")
    assert b"authorization" not in headers_of(plan)
    assert (plan.arm, plan.student_name, plan.student, plan.task) == (Arm.STUDENT, student.name, None, "triage")
    assert (plan.assignment, plan.rollout) == (None, None)
    assert refused(router, body | {"n": 2}).code == "n"


def test_a_students_name_while_it_is_not_served(snapshot: Snapshot) -> None:
    student = student_of(endpoint=None)
    router = router_of(with_rollouts(snapshot, rollout_of(student)))
    assert refused(router, chat(model=student.name)).status == 503


def test_a_scoped_key_reaches_the_students_of_its_tasks_alone(snapshot: Snapshot) -> None:
    student = student_of()
    routed = with_rollouts(snapshot, rollout_of(student))
    allowed, other = keys_of(tasks=("triage",)), keys_of(tasks=("extract",))
    assert planned(router_of(routed, keys=allowed), chat(model=student.name), x_stillhouse_key="sh-token")
    assert refused(router_of(routed, keys=other), chat(model=student.name), x_stillhouse_key="sh-token").status == 403


def test_a_body_that_only_lenient_readers_take_stays_with_the_teacher(snapshot: Snapshot) -> None:
    router = router_of(with_rollouts(snapshot, rollout_of()))
    body = (
        b'{"model":"gpt-4.1","store":true,"metadata":{"app":"triage"},"messages":[{"role":"user","content":"\\ud83d"}]}'
    )
    plan = planned(router, body)
    assert (plan.leg.body, plan.student, plan.reason, plan.task) == (body, None, "shape", "triage")
    assert plan.fingerprint is not None


def test_a_task_without_a_rollout_costs_no_second_decode(snapshot: Snapshot) -> None:
    plan = planned(router_of(snapshot), chat(model="triage"))
    assert (plan.rollout, plan.assignment, plan.reason, plan.student) == (None, None, None, None)


def test_an_eligible_request_of_a_student_session_is_tried_with_the_student_first(snapshot: Snapshot) -> None:
    body = chat(model="triage", user="u", response_format={"type": "json_object"}, stream=True)
    student = student_of(view=student_of().facts.view)
    facts = replace(student.facts, fingerprints=frozenset({fingerprint(body)}))
    rollout = rollout_of(replace(student, facts=facts), share=0.95)
    router = router_of(with_rollouts(snapshot, rollout), clock=Time(NOW))
    plans = [planned(router, body, x_stillhouse_session=f"s{n}") for n in range(200)]
    asked = [plan for plan in plans if plan.student is not None]
    assert 170 < len(asked) < 200
    assert {plan.assignment for plan in asked} == {Assignment.STUDENT}
    assert {plan.assignment for plan in plans if plan.student is None} == {Assignment.CONTROL}
    held = asked[0].student
    assert held is not None
    assert (held.deadline_s, held.buffered, held.leg.served_model) == (2.0, True, student.name)
    assert held.valid is not None
    assert held.valid(b"not json", True) == "invalid_json"
    assert json.loads(held.leg.body or b"")["stream"] is True
    assert json.loads(asked[0].leg.body or b"")["model"] == "gpt-4.1"


@pytest.mark.parametrize(
    "where",
    [
        '"messages":[{"role":"user","content":"x"}],"metadata":%s',
        '"messages":[{"role":"user","content":"x"}],"tools":[%s]',
        '"messages":[{"role":"user","content":"x"}],"response_format":%s',
        '"messages":[{"role":%s,"content":"x"}]',
        '"messages":[{"role":"system","content":%s}]',
    ],
)
@pytest.mark.parametrize("model", ["gpt-4.1", "small"])
def test_no_depth_of_a_body_is_a_failure_of_ours(snapshot: Snapshot, where: str, model: str) -> None:
    """Near the deepest that is read, what looks closer has less room still."""
    here = with_rollouts(snapshot, rollout_of(student_of(name="small", facts=StudentFacts(frozenset(), True, VIEW))))
    for levels in (300, *range(850, 1050, 3)):
        for opened, closed in (('{"a":', "}"), ("[", "]")):
            deep = opened * levels + "1" + closed * levels
            body = f'{{"model":"{model}",{where % deep}}}'.encode()
            assert isinstance(router_of(here).plan(head_of(x_stillhouse_task="triage"), body), Plan | Refusal)


def test_a_request_that_cannot_be_looked_at_is_counted(snapshot: Snapshot) -> None:
    tally = Tally()
    here = with_rollouts(snapshot, rollout_of())
    body = b'{"model":"gpt-4.1","metadata":{"app":"triage"},"top_p":NaN,"messages":[{"role":"user","content":"x"}]}'
    assert planned(router_of(here, tally=tally), body).reason == "shape"
    assert tally.reasons == {("triage", "shape"): 1}
