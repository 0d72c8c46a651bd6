import json
from pathlib import Path

import pytest

from gateway.peeking import model_of_body, model_of_path
from gateway.plan import Plan
from tests.factories.routing import CONFIG, head_of, router_of, settings_of, snapshot_of

FORM = (
    b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\naz-whisper\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\nContent-Type: audio/mpeg\r\n\r\n\xff\x00'
)
JSON, MULTIPART = b"application/json", b'multipart/form-data; boundary="b"'


@pytest.mark.parametrize(
    ("content_type", "beginning", "model"),
    [
        (JSON, b'{"input":"x","model":"az-embed"}', "az-embed"),
        (JSON, b'{"input":"\\"model\\":\\"x\\"","model":"az-embed"}', "az-embed"),
        (JSON, b'{"nested":{"model":"other"}}', ""),
        (JSON, b' { "model" : "az-embed", "input": "cut o', "az-embed"),
        (JSON, b'{"input":"cut o', ""),
        (JSON, b'{"model":7}', ""),
        (JSON, b"\xff\xfe", ""),
        (MULTIPART, FORM, "az-whisper"),
        (MULTIPART, FORM.replace(b"name=", b"NAME=").replace(b"content-", b"Content-"), "az-whisper"),
        (MULTIPART, FORM.replace(b"\r\n\r\naz", b"\r\nContent-Type: text/plain\r\n\r\naz"), "az-whisper"),
        (MULTIPART, FORM.replace(b'"model"', b'"prompt"'), ""),
    ],
)
def test_the_model_that_a_body_names(content_type: bytes, beginning: bytes, model: str) -> None:
    assert model_of_body(content_type, beginning) == model


def test_the_model_that_a_path_names() -> None:
    assert model_of_path("/v1/models/ft%3Ax") == "ft:x"
    assert model_of_path("/v1/files/x") == ""


def test_passed_requests_go_where_their_model_is(tmp_path: Path) -> None:
    router = router_of(snapshot_of(settings_of(tmp_path)))
    head = head_of("/v1/embeddings", content_type="application/json", authorization="Bearer sk-client")
    assert router.peeks(head)
    plan = router.plan_passed(head, json.dumps({"input": "x", "model": "az-embed"}).encode())
    assert isinstance(plan, Plan)
    assert plan.leg.target == "/openai/deployments/az-embed/embeddings?api-version=2024-10-21"
    assert dict(plan.leg.headers) == {b"content-type": b"application/json", b"api-key": b"azure-secret"}
    assert (plan.leg.body, plan.captured) == (None, False)
    other = router.plan_passed(head, b'{"model":"nobodys"}')
    assert isinstance(other, Plan)
    assert other.leg.address.upstream == "openai"  # the default says what is wrong with it
    deleted = router.plan(head_of("/v1/models/az-gpt", "DELETE"), None)
    assert isinstance(deleted, Plan)
    assert deleted.leg.address.upstream == "azure"


def test_with_one_upstream_nothing_is_held(tmp_path: Path) -> None:
    alone = CONFIG.split("[upstreams.azure]")[0].replace('models = ["gpt-*"]', "")
    router = router_of(snapshot_of(settings_of(tmp_path, alone)))
    assert not router.peeks(head_of("/v1/embeddings", content_type="application/json"))


def test_a_binary_body_is_never_looked_at(tmp_path: Path) -> None:
    router = router_of(snapshot_of(settings_of(tmp_path)))
    assert not router.peeks(head_of("/v1/uploads", content_type="application/octet-stream"))
    assert not router.peeks(head_of("/v1/uploads"))
