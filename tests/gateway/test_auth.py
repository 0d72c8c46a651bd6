import pytest

from capture.keys import Key, KeyLimits, digest_of
from gateway.auth import Caller, Gate
from gateway.plan import Refusal
from tests.factories.routing import NOW, PEPPER

TOKEN = "sh-token"
KEY = Key("key_1", "app", "sh-tok", ("triage",), KeyLimits(), NOW - 10, NOW + 10, None)
KEYS = {digest_of(TOKEN, PEPPER): KEY}
GATE = Gate("required", PEPPER)


def admitted(*headers: tuple[bytes, bytes], now: float = NOW) -> Caller | Refusal:
    return GATE.admit(headers, KEYS, now)


def test_with_keys_off_nobody_is_asked() -> None:
    assert Gate("off", b"").admit(((b"x-stillhouse-key", b"whatever"),), KEYS, NOW) == Caller()


@pytest.mark.parametrize(
    ("header", "by_bearer"),
    [((b"x-stillhouse-key", b"sh-token"), False), ((b"authorization", b"Bearer sh-token"), True)],
)
def test_a_good_key_in_either_place(header: tuple[bytes, bytes], by_bearer: bool) -> None:
    assert admitted(header) == Caller(KEY, by_bearer)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"x-stillhouse-key", b""),),
        ((b"x-stillhouse-key", b"sh-other"),),
        ((b"x-stillhouse-key", b"sh-\xff"),),
        ((b"authorization", b"Bearer sk-of-the-provider"),),
        ((b"x-stillhouse-key", b"sh-other"), (b"authorization", b"Bearer sh-token")),
    ],
)
def test_all_else_is_refused_without_echo(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    refusal = admitted(*headers)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (401, "invalid_api_key")
    assert "sh-o" not in refusal.message
    assert "sk-" not in refusal.message


def test_an_expired_key_is_refused() -> None:
    assert isinstance(admitted((b"x-stillhouse-key", b"sh-token"), now=NOW + 10), Refusal)


def test_a_key_is_for_its_tasks_alone() -> None:
    caller = Caller(KEY)
    assert [caller.may_use(task) for task in ("triage", "other", None)] == [True, False, False]
    assert Caller().may_use(None)
    assert (Caller().id, caller.id) == (None, "key_1")
