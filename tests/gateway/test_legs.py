"""Ordered fallback among teachers, as the router plans it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capture.errors import ConfigError
from capture.keys import Key, KeyLimits, digest_of
from capture.tasks import fingerprint
from gateway.breaker import Breakers
from gateway.plan import Leg, Plan, Refusal
from gateway.routing import Router
from gateway.snapshot import LiveStudent
from gateway.upstreams import endpoint
from students.assignment import arm_for
from tests.factories.routing import (
    CONFIG,
    NOW,
    PEPPER,
    SECRETS,
    Time,
    head_of,
    rollout_of,
    router_of,
    settings_of,
    snapshot_of,
    student_of,
    with_rollouts,
)

FALLBACKS = 'fallbacks = [{ upstream = "azure", model = "az-gpt" }, { upstream = "local" }]\n'
TASKS = CONFIG.replace("[upstreams.openai]\n", "[upstreams.openai]\n" + FALLBACKS).replace(
    "[tasks.triage]\n", '[tasks.triage]\nfallbacks = [{ upstream = "local", model = "big" }]\n'
)


def router(folder: Path, config: str = TASKS, breakers: Breakers | None = None, **more: Any) -> Router:
    return router_of(snapshot_of(settings_of(folder, config)), breakers=breakers, **more)


def ask(router: Router, body: dict[str, Any] | None = None, **headers: str) -> Plan | Refusal:
    asked = {"model": "gpt-4.1", "messages": [], "temperature": 0} | (body or {})
    return router.plan(head_of(authorization="Bearer sk-client", **headers), json.dumps(asked).encode())


def planned(outcome: Plan | Refusal) -> tuple[Leg, list[Leg]]:
    assert isinstance(outcome, Plan), outcome
    return outcome.leg, list(outcome.others)


def opened(breakers: Breakers, *names: str) -> Breakers:
    for name in names:
        for _ in range(5):
            breakers.observe(name, False)
    return breakers


HELLO: dict[str, Any] = {"model": "triage", "messages": [{"role": "user", "content": "hello"}]}


def knowing(**more: Any) -> LiveStudent:
    """A student that may answer HELLO."""
    return student_of(facts=replace(student_of().facts, fingerprints=frozenset({fingerprint(HELLO)})), **more)


def sessions_of_the_student(count: int) -> list[str]:
    """Of the factory's rollout, at its share."""
    return [f"s{n}" for n in range(1000) if arm_for("ro_1", f"s{n}", 0.95) == "student"][:count]


def test_the_next_teachers_get_their_own_key_path_and_model(tmp_path: Path) -> None:
    first, (azure, local) = planned(ask(router(tmp_path)))
    assert (first.address.upstream, first.served_model, first.circuit) == ("openai", "gpt-4.1", "openai")
    assert dict(first.headers)[b"authorization"] == b"Bearer sk-client"
    assert azure.target == "/openai/deployments/az-gpt/chat/completions?api-version=2024-10-21"
    assert (dict(azure.headers), azure.served_model) == ({b"api-key": b"azure-secret"}, "az-gpt")
    assert json.loads(azure.body or b"") == {"model": "az-gpt", "messages": [], "temperature": 0}
    assert (local.served_model, dict(local.headers)) == ("gpt-4.1", {b"authorization": b"Bearer local-secret"})
    assert local.body == first.body


def test_a_tasks_own_fallbacks_stand_in_place_of_its_upstreams(tmp_path: Path) -> None:
    _, others = planned(ask(router(tmp_path), {"model": "triage"}))
    assert [(leg.address.upstream, leg.served_model) for leg in others] == [("local", "big")]


def test_one_whose_circuit_is_open_is_passed_over_at_once(tmp_path: Path) -> None:
    first, others = planned(ask(router(tmp_path, breakers=opened(Breakers({}, Time()), "openai"))))
    assert (first.address.upstream, [leg.address.upstream for leg in others]) == ("azure", ["local"])
    first, others = planned(ask(router(tmp_path, breakers=opened(Breakers({}, Time()), "openai", "azure"))))
    assert (first.address.upstream, others) == ("local", [])


def test_with_every_circuit_open_the_client_is_told_when_to_come_again(tmp_path: Path) -> None:
    clock = Time()
    breakers = opened(Breakers({}, clock), "azure", "local")
    clock.now += 4
    opened(breakers, "openai")
    refusal = ask(router(tmp_path, breakers=breakers))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.type) == (503, "upstream_circuit_open", "server_error")
    assert refusal.headers == ((b"retry-after", b"6"),)


TOKEN = "sh-" + "k" * 43


def keys_of(limits: KeyLimits) -> dict[str, Key]:
    return {digest_of(TOKEN, PEPPER): Key("k1", "app", "sh-abc", (), limits, NOW, None, None)}


@pytest.mark.parametrize("limit", ["concurrency", "requests_per_minute", "tokens_per_minute"])
def test_what_a_key_took_is_given_back_when_nobody_is_asked(tmp_path: Path, limit: str) -> None:
    breakers = opened(Breakers({}, Time()), "openai", "azure", "local")
    here = router(tmp_path, breakers=breakers, keys=keys_of(KeyLimits(**{limit: 1})))
    codes = [outcome.code for outcome in (ask(here, x_stillhouse_key=TOKEN) for _ in range(3)) if outcome.code]  # type: ignore[union-attr]
    assert codes == ["upstream_circuit_open"] * 3


def test_what_a_key_took_is_given_back_when_no_plan_can_be_made(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    student = knowing(endpoint=endpoint("local", settings.upstreams["local"]), registered=True)
    routed = with_rollouts(snapshot_of(settings), rollout_of(student, share=0.95))
    routed = replace(routed, secrets=SECRETS | {"local": "\u0107"})  # no header can carry it
    here = router_of(routed, keys=keys_of(KeyLimits(concurrency=1)))
    for session in sessions_of_the_student(3):
        with pytest.raises(UnicodeEncodeError):
            ask(here, HELLO, x_stillhouse_key=TOKEN, x_stillhouse_session=session)


def test_a_passed_route_knows_the_circuit_too(tmp_path: Path) -> None:
    here = router(tmp_path, breakers=opened(Breakers({}, Time()), "openai"))
    refusal = here.plan(head_of("/v1/batches", "GET"), None)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "upstream_circuit_open"


@pytest.mark.parametrize(
    ("fallbacks", "said"),
    [
        ('fallbacks = [{ upstream = "nowhere" }]', "nowhere"),
        ('fallbacks = [{ upstream = "openai" }]', 'auth = "key"'),
    ],
)
def test_a_fallback_that_would_get_the_clients_key_stops_the_start(tmp_path: Path, fallbacks: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings_of(tmp_path, CONFIG.replace("[upstreams.local]\n", f"[upstreams.local]\n{fallbacks}\n"))


def test_behind_a_student_the_teacher_is_passed_over_while_its_circuit_is_open(tmp_path: Path) -> None:
    routed = with_rollouts(snapshot_of(settings_of(tmp_path, TASKS)), rollout_of(knowing(), share=0.95))
    breakers = Breakers({}, Time())
    here = router_of(routed, breakers=breakers)
    first, second = (ask(here, HELLO, x_stillhouse_session=session) for session in sessions_of_the_student(2))
    assert [leg.address.upstream for leg in planned(first)[1]] == ["openai", "local"]
    opened(breakers, "openai")  # after the plan was made: it counts when it is needed
    leg, others = planned(second)
    assert isinstance(second, Plan)
    assert second.student is not None
    assert (leg.address.upstream, [one.address.upstream for one in others]) == ("openai", ["local"])


def test_behind_a_student_the_teacher_without_a_key_is_passed_over(tmp_path: Path) -> None:
    fallbacks = 'fallbacks = [{ upstream = "azure", model = "az-gpt" }]\n'
    settings = settings_of(tmp_path, CONFIG.replace("[tasks.extract]\n", f"[tasks.extract]\n{fallbacks}"))
    routed = with_rollouts(snapshot_of(settings), rollout_of(knowing(task="extract"), task="extract", share=0.95))
    here = router_of(replace(routed, secrets={"azure": "azure-secret"}))
    (session,) = sessions_of_the_student(1)
    plan = ask(here, HELLO | {"model": "extract"}, x_stillhouse_session=session)
    leg, others = planned(plan)
    assert isinstance(plan, Plan)
    assert plan.student is not None
    assert (leg.served_model, [one.served_model for one in others]) == ("az-gpt", ["az-gpt"])
