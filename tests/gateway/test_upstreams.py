from pathlib import Path

import pytest

from capture.settings import UpstreamSettings
from gateway.plan import NAME_CHARACTERS
from gateway.upstreams import Directory, endpoint, server_endpoint
from tests.factories.routing import settings_of


def directory(default: str = "a", **upstreams: tuple[str, ...]) -> Directory:
    made = {
        name: endpoint(name, UpstreamSettings(base_url=f"http://{name}.example/v1", models=models))
        for name, models in upstreams.items()
    }
    return Directory(made, default)


def test_an_openai_upstreams_address_and_target() -> None:
    one = endpoint("x", UpstreamSettings(base_url="https://h.example:8443/base/v1/", first_byte_timeout_s=7))
    assert (one.address.host, one.address.port, one.address.tls) == ("h.example", 8443, True)
    assert one.address.first_byte_timeout_s == 7
    assert one.target("/chat/completions", "a=b", "m") == "/base/v1/chat/completions?a=b"
    assert one.credentials("s") == ((b"authorization", b"Bearer s"),)


@pytest.mark.parametrize(
    ("route", "query", "target"),
    [
        ("/chat/completions", "", "/openai/deployments/my%20gpt/chat/completions?api-version=v"),
        ("/embeddings", "a=b", "/openai/deployments/my%20gpt/embeddings?a=b&api-version=v"),
        ("/chat/completions", "api-version=w", "/openai/deployments/my%20gpt/chat/completions?api-version=w"),
        ("/responses", "", "/openai/responses?api-version=v"),
        ("/models", "", "/openai/models?api-version=v"),
    ],
)
def test_azures_deployments(route: str, query: str, target: str) -> None:
    settings = UpstreamSettings(base_url="https://r.example/openai", kind="azure", api_version="v")
    one = endpoint("x", settings)
    assert one.target(route, query, "my gpt") == target
    assert one.credentials("s") == ((b"api-key", b"s"),)


def test_azures_newer_surface_has_openais_paths() -> None:
    one = endpoint("x", UpstreamSettings(base_url="https://r.example/openai/v1", kind="azure"))
    assert one.target("/chat/completions", "", "m") == "/openai/v1/chat/completions"


def test_a_model_goes_to_the_upstream_that_names_it_else_to_the_default() -> None:
    known = directory(a=("*",), b=("gpt-*", "o?"), c=("gpt-4*",))
    assert [known.for_model(name).name for name in ("gpt-4.1", "o3", "other", "")] == ["b", "b", "a", "a"]  # type: ignore[union-attr]


def test_a_default_that_names_its_models_takes_no_others() -> None:
    known = directory(a=("gpt-*",))
    assert known.for_model("other") is None
    assert known.for_model("") is known.default


def test_the_only_upstream_is_the_default() -> None:
    assert directory("", a=("*",)).default is not None
    several = directory("", a=("*",), b=("x",))
    assert several.default is None
    assert several.for_model("m") is several.named("a")
    assert directory("", a=("*",), b=("*",)).for_model("m") is None


def test_a_students_server_has_no_credentials_and_a_short_connect() -> None:
    one = server_endpoint("s", "http://127.0.0.1:9600/v1")
    assert (one.address.port, one.address.connect_timeout_s, one.auth) == (9600, 2, "forward")


def test_every_upstream_of_the_file_becomes_an_endpoint(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    made = {name: endpoint(name, one) for name, one in settings.upstreams.items()}
    assert {name: one.auth for name, one in made.items()} == {"openai": "forward", "azure": "key", "local": "key"}


def test_long_names_are_not_remembered_and_stand_in_no_path() -> None:
    """They are the clients' to choose: thousands of large ones would stay."""
    known = directory(a=("*",))
    for length in (NAME_CHARACTERS, NAME_CHARACTERS + 1):
        assert known.for_model("m" * length) is known.default
    assert [len(name) for name in known._known] == [NAME_CHARACTERS]
    azure = endpoint("x", UpstreamSettings(base_url="https://r.example/openai", kind="azure"))
    assert azure.target("/chat/completions", "", "m" * 10_000) == "/openai/chat/completions"
