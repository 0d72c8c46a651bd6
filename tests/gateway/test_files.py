"""`/v1/files` by the unmodified SDK: files to train on stay here, each key's its own; all others are the provider's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx2
import openai
import pytest
from openai import OpenAI

from capture import keys
from capture.db import open_store
from capture.migrations import upgrade
from capture.settings import Settings
from gateway import files
from tests.factories.routing import settings_of
from tests.fakes.client import RawClient
from tests.fakes.gateway import GatewayServer
from tests.fakes.upstream import Conversation, ScriptedUpstream, response

CONFIG = """
[gateway]
keys = "{keys}"

[upstreams.a]
base_url = "http://127.0.0.1:{port}/v1"

[fine_tuning]
bases = ["tiny"]
file_bytes = 20000
total_bytes = 30000
"""
FAR = {"id": "file-abc", "object": "file", "bytes": 1, "created_at": 1, "filename": "f", "status": "processed"}


def lines(count: int = 12, text: str = "ticket") -> bytes:
    def line(number: int) -> dict[str, Any]:
        asked = {"role": "user", "content": f"{text} {number}"}
        return {"messages": [asked, {"role": "assistant", "content": "billing"}]}

    return b"".join(json.dumps(line(number)).encode() + b"\n" for number in range(count))


def far_page(query: dict[str, list[str]]) -> dict[str, Any]:
    data = [{**FAR, "id": f"file-far{number}", "purpose": "fine-tune"} for number in range(2)]
    start = next((at + 1 for at, one in enumerate(data) if [one["id"]] == query.get("after")), 0)
    page = data[start : start + int(query.get("limit", ["100"])[0])]
    return {"object": "list", "data": page, "has_more": start + len(page) < len(data)}


def script(talk: Conversation) -> None:
    """A provider with two files, that answers each upload with what it got of it."""
    while (request := talk.read_request()) is not None:
        method, target = request.start.split()[:2]
        if method == b"POST":
            length = str(len(request.body))
            talk.send(response(json.dumps({**FAR, "purpose": "batch", "filename": length}).encode()))
        elif target.startswith(b"/v1/files?") or target == b"/v1/files":
            talk.send(response(json.dumps(far_page(parse_qs(target.partition(b"?")[2].decode()))).encode()))
        else:
            talk.send(response(json.dumps({**FAR, "purpose": "batch"}).encode()))


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(script) as upstream:
        yield upstream


def open_gateway(folder: Path, upstream: ScriptedUpstream, keys_: str = "off") -> GatewayServer:
    settings = settings_of(folder, CONFIG.format(keys=keys_, port=upstream.port))
    store = open_store(settings.store_url)
    upgrade(store)
    store.close()
    return GatewayServer(settings)


@pytest.fixture
def gateway(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[GatewayServer]:
    with open_gateway(tmp_path, upstream) as gateway:
        yield gateway


def client_of(gateway: GatewayServer, **headers: str) -> OpenAI:
    return OpenAI(base_url=gateway.url, api_key="sk-client", max_retries=0, default_headers=headers)


@pytest.fixture
def client(gateway: GatewayServer) -> Iterator[OpenAI]:
    with client_of(gateway) as client:
        yield client


def left(settings: Settings) -> list[str]:
    return sorted(path.suffix for path in (settings.data / "files").iterdir())


def test_kept_read_and_let_go_of(client: OpenAI, gateway: GatewayServer, upstream: ScriptedUpstream) -> None:
    made = client.files.create(file=("rows.jsonl", lines()), purpose="fine-tune")
    assert (made.filename, made.purpose, made.bytes, made.status) == (
        "rows.jsonl",
        "fine-tune",
        len(lines()),
        "processed",
    )
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == lines()
    assert upstream.requests == []
    (kept,) = (gateway.settings.data / "files").iterdir()
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert client.files.delete(made.id).deleted
    assert left(gateway.settings) == []
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.files.retrieve(made.id)


def test_ours_are_listed_before_the_providers(client: OpenAI) -> None:
    made = [client.files.create(file=("f", lines(text=text)), purpose="fine-tune").id for text in "abc"]
    everything = [*made[::-1], "file-far0", "file-far1"]
    assert [one.id for one in client.files.list(limit=10)] == everything
    assert [one.id for one in client.files.list(limit=2, purpose="fine-tune")] == everything
    assert [one.id for one in client.files.list(order="asc", limit=3)][:3] == made
    first = client.files.list(limit=3)
    assert (len(first.data), first.has_more) == (3, True)


def test_other_purposes_and_files_are_the_providers(client: OpenAI, upstream: ScriptedUpstream) -> None:
    made = client.files.create(file=("f.bin", b"\x00\xff raw"), purpose="batch")
    sent = upstream.requests[0]
    assert b"\x00\xff raw" in sent.body
    assert made.filename == str(len(sent.body))
    assert sent.header(b"authorization") == b"Bearer sk-client"
    assert sent.header(b"content-length") == str(len(sent.body)).encode()
    assert client.files.retrieve("file-abc").id == "file-abc"
    assert [one.id for one in client.files.list(purpose="batch")] == ["file-far0", "file-far1"]
    asked = {request.start.split()[1] for request in upstream.requests if request is not sent}
    assert asked == {b"/v1/files/file-abc", b"/v1/files?purpose=batch"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lines() + b"{nonsense\n", "Line 13 of the file is no training line: JSON is malformed"),
        (lines(2) + b'\n{"messages": []}\n', "Line 4 .*its last message is not the assistant's"),
        (b'{"prompt": "a"}\n', "Line 1 .*missing required field `messages`"),
        (
            b'{"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []}\n',
            r"preference line \(DPO\)",
        ),
        (b'{"messages": [{"role": "boss"}]}\n', r"Line 1 .*Invalid enum value 'boss' - at `\$.messages\[0\].role`"),
        (b'{"messages": [{"role": "assistant", "weight": 0, "content": "x"}]}\n', "weight 0"),
        (b'{"messages": [{"role": "assistant", "content": ""}]}\n', "neither content nor tool_calls"),
        (b"\xff\xfe\n", "Line 1 "),
        (b"\n", "has no lines"),
        (b"", "has no lines"),
    ],
)
def test_a_file_that_cannot_be_trained_on_is_refused_by_its_line(
    client: OpenAI, gateway: GatewayServer, content: bytes, reason: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=reason):
        client.files.create(file=("f", content), purpose="fine-tune")
    assert left(gateway.settings) == []


def test_bounds(client: OpenAI, gateway: GatewayServer) -> None:
    with pytest.raises(openai.APIStatusError, match="20000 bytes") as refused:
        client.files.create(file=("f", lines(400)), purpose="fine-tune")
    assert refused.value.status_code == 413
    client.files.create(file=("f", lines(110)), purpose="fine-tune")
    client.files.create(file=("f", lines(110)), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="30000 bytes together"):
        client.files.create(file=("f", lines(110)), purpose="fine-tune")
    assert left(gateway.settings) == [".jsonl"] * 2
    with pytest.raises(openai.BadRequestError, match="limit is a number"):
        client.files.list(limit=0)


def test_no_room(client: OpenAI, gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROOM_BYTES", 2**62)
    with pytest.raises(openai.APIStatusError, match="no room") as refused:
        client.files.create(file=("f", lines()), purpose="fine-tune")
    assert refused.value.status_code == 507
    assert left(gateway.settings) == []


def test_no_room_for_the_second_copy(
    client: OpenAI, gateway: GatewayServer, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _place: files.ROOM_BYTES)
    with pytest.raises(openai.APIStatusError, match="no room") as refused:
        client.files.create(file=("f", lines()), purpose="fine-tune")
    assert refused.value.status_code == 507
    assert left(gateway.settings) == []
    client.files.create(file=("f", lines()), purpose="batch")  # whose file is not taken out of its form
    assert lines() in upstream.requests[0].body


def test_headers_that_connection_names_end_here(gateway: GatewayServer, upstream: ScriptedUpstream) -> None:
    with RawClient(gateway.port) as client:
        hops = b"connection: keep-alive, x-hop\r\nx-hop: 1\r\nx-end: 2\r\n"
        client.send(b"GET /v1/files?purpose=batch HTTP/1.1\r\nhost: gateway\r\n%b\r\n" % hops)
        assert client.answer("GET").status == 200
    (sent,) = upstream.requests
    assert (sent.header(b"x-hop"), sent.header(b"x-end")) == (None, b"2")


def test_an_expiry_is_kept(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    now = [1_800_000_000.0]
    settings = settings_of(tmp_path, CONFIG.format(keys="off", port=upstream.port))
    store = open_store(settings.store_url)
    upgrade(store)
    store.close()
    with GatewayServer(settings, clock=lambda: now[0]) as gateway, client_of(gateway) as client:
        expiry: Any = {"anchor": "created_at", "seconds": 3600}
        made = client.files.create(file=("f", lines()), purpose="fine-tune", expires_after=expiry)
        assert made.expires_at == made.created_at + 3600
        now[0] += 3601
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(made.id)
        client.files.create(file=("f", lines()), purpose="fine-tune")
        assert len(left(settings)) == 1


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"{}", "application/json", "must be multipart/form-data"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", "malformed|broke off"),
        (
            b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            "'file' is a required property",
        ),
    ],
)
def test_forms_that_are_none(gateway: GatewayServer, body: bytes, kind: str, reason: str) -> None:
    with httpx2.Client() as plain:
        answer = plain.post(f"{gateway.url}/files", content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert any(part in answer.json()["error"]["message"] for part in reason.split("|"))
    assert left(gateway.settings) == []


def test_each_key_sees_its_own(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    gateway = open_gateway(tmp_path, upstream, "required")
    store = open_store(gateway.settings.store_url)
    secrets = [keys.create(store, gateway.settings.data, name, (), None, lambda: 1.0)[0] for name in "ab"]
    store.close()
    with gateway:
        one, other = (client_of(gateway, **{"x-stillhouse-key": secret}) for secret in secrets)
        made = one.files.create(file=("f", lines()), purpose="fine-tune")
        assert next(file.id for file in one.files.list()) == made.id
        assert made.id not in [file.id for file in other.files.list()]
        for call in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(made.id)
        assert one.files.content(made.id).read() == lines()
        one.close()
        other.close()
        with client_of(gateway) as nobody, pytest.raises(openai.AuthenticationError):
            nobody.files.create(file=("f", lines()), purpose="fine-tune")
