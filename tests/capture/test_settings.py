"""Settings: the file, overridden by the environment; what is wrong stops the start with one line."""

import sys
from pathlib import Path

import pytest

from capture.errors import ConfigError
from capture.settings import check_secrets, find_config, load, login_secret, secret

SMALLEST = """
[gateway]
default_upstream = "openai"

[upstreams.openai]
base_url = "https://api.openai.com/v1"
auth = "forward"
worker_key_env = "OPENAI_API_KEY"
training_allowed = true

[tasks.triage]
match = { model = "gpt-4.1", metadata = { app = "triage" } }
teacher = { upstream = "openai", model = "gpt-4.1" }
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "stillhouse.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_smallest_file_of_the_design_loads(tmp_path: Path) -> None:
    settings = load(written(tmp_path, SMALLEST), {})
    assert settings.tasks["triage"].match.metadata == {"app": "triage"}
    assert settings.upstreams["openai"].training_allowed
    assert settings.gateway.port == 8080
    assert settings.gateway.host == "127.0.0.1"
    assert settings.store_url == "sqlite:///data/stillhouse.db"
    assert settings.spool_folder == Path("data/spool")


def test_no_file_is_all_defaults() -> None:
    assert load(None, {}).tasks == {}


def test_the_environment_goes_before_the_file_and_the_option_before_both(tmp_path: Path) -> None:
    file = written(tmp_path, SMALLEST)
    environ = {
        "STILLHOUSE_GATEWAY__PORT": "9000",
        "STILLHOUSE_DATA": "/somewhere",
        "DATABASE_URL": "postgresql://host/db",
        "UNRELATED": "x",
    }
    settings = load(file, environ)
    assert settings.gateway.port == 9000
    assert settings.gateway.default_upstream == "openai"
    assert settings.data == Path("/somewhere")
    assert settings.store_url == "postgresql://host/db"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gateway]\nprot = 1", "gateway.prot"),
        ("[gateway]\nport = 70000", "gateway.port"),
        ("[tasks.x]\nteacher = { upstream = 'nope', model = 'm' }", "not under [upstreams]"),
        ("[gateway]\ndefault_upstream = 'nope'", "not under [upstreams]"),
        ("[gateway]\nhost = '0.0.0.0'", "is public"),
        ("[upstreams.a]\nbase_url = 'ftp://x'", "must look like https://host/v1"),
        ("[upstreams.a]\nbase_url = 'https://x/v1'\nauth = 'key'", "needs api_key_env or api_key_file"),
        ("database_url = 'sqlite:///x.db'", "leave it empty for SQLite"),
        ("[upstreams.a]\nbase_url = 'https://x/v1'\nfine_tuning = ['m']", "fine_tuning needs training_allowed = true"),
        ("not toml at all", "not valid TOML"),
        ("[upstreams.a]\nbase_url = 'http://h:80800/v1'", "must look like https://host/v1"),
        ("[upstreams.a]\nbase_url = 'http://h:abc/v1'", "must look like https://host/v1"),
        ("[upstreams.a]\nbase_url = 'http://[::1/v1'", "must look like https://host/v1"),
        ("database_url = 'postgresql://u@h:abc/x'", "must look like postgresql://user:password@host:5432/name"),
        ("database_url = 'postgresql'", "must look like postgresql://user:password@host:5432/name"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`stillhouse init` writes one"):
        load(tmp_path / "none.toml", {})


def test_a_folder_in_the_file_s_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder: remove it; `stillhouse init` writes the file"):
        load(tmp_path, {})


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")  # permissions would not stop root
    with pytest.raises(ConfigError, match=r"loop cannot be read: Too many levels of symbolic links"):
        load(tmp_path / "loop", {})


@pytest.mark.parametrize(
    "name", ["STILLHOUSE_GATEWAYS__KEYS", "STILLHOUSE_GATEWAY_KEYS", "STILLHOUSE_KEYS", "STILLHOUSE_CONFIG__KEYS"]
)
def test_a_name_in_the_environment_that_is_no_setting_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} in the environment: no such setting$"):
        load(None, {name: "required"})


def test_what_kubernetes_says_of_a_service_is_no_setting() -> None:
    links = {
        "STILLHOUSE_SERVICE_HOST": "10.0.0.1",
        "STILLHOUSE_SERVICE_PORT_HTTP": "8080",
        "STILLHOUSE_PORT": "tcp://10.0.0.1:8080",
        "STILLHOUSE_PORT_8080_TCP_ADDR": "10.0.0.1",
        "STILLHOUSE_WORKER_SERVICE_HOST": "10.0.0.2",
        "STILLHOUSE_WORKER_PORT": "tcp://10.0.0.2:80",
    }
    assert load(None, links).gateway.port == 8080
    with pytest.raises(ConfigError, match="STILLHOUSE_PORT in the environment"):
        load(None, {"STILLHOUSE_PORT": "9090"})


def test_names_that_the_product_knows_are_let_through() -> None:
    known = {"STILLHOUSE_CONFIG": "x.toml", "STILLHOUSE_DATA": "/d", "STILLHOUSE_GATEWAY__KEYS": "required"}
    assert load(None, known).gateway.keys == "required"


SECRETS = """
[upstreams.openai]
base_url = "https://api.openai.com/v1"
auth = "key"
api_key_env = "STILLHOUSE_OPENAI_KEY"
worker_key_env = "STILLHOUSE_UPSTREAMS__OPENAI__WORKER"

[console.login]
issuer = "https://accounts.example.com"
client_id = "c"
client_secret_env = "STILLHOUSE_LOGIN"
public_url = "https://console.example.com"
people = { "ann@example.com" = "viewer" }
"""


def test_a_secrets_variable_that_a_setting_names_may_be_called_as_one_likes(tmp_path: Path) -> None:
    environ = {"STILLHOUSE_OPENAI_KEY": "a", "STILLHOUSE_UPSTREAMS__OPENAI__WORKER": "b", "STILLHOUSE_LOGIN": "c"}
    file = written(tmp_path, SECRETS)
    settings = load(file, environ)
    upstream, login = settings.upstreams["openai"], settings.console.login
    assert login is not None
    found = [secret(upstream, environ), secret(upstream, environ, worker=True), login_secret(login, environ)]
    assert found == ["a", "b", "c"]
    with pytest.raises(ConfigError, match=r"^STILLHOUSE_LOGINS in the environment"):
        load(file, {**environ, "STILLHOUSE_LOGINS": "c"})


def test_a_secrets_variable_may_be_named_by_the_environment(tmp_path: Path) -> None:
    environ = {"STILLHOUSE_UPSTREAMS__OPENAI__WORKER_KEY_ENV": "STILLHOUSE_K", "STILLHOUSE_K": "a"}
    upstream = load(written(tmp_path, SMALLEST), environ).upstreams["openai"]
    assert secret(upstream, environ, worker=True) == "a"


@pytest.mark.parametrize("name", ["gateway.host", "gateway.metrics_host", "console.host", "students.host"])
def test_an_empty_host_is_not_every_address(name: str) -> None:
    environ = {
        f"STILLHOUSE_{name.replace('.', '__').upper()}": "",
        "STILLHOUSE_GATEWAY__KEYS": "required",
        "STILLHOUSE_CONSOLE__ALLOW_PUBLIC": "true",
    }
    with pytest.raises(ConfigError, match=rf"^environment: {name}: String should have at least 1 character"):
        load(None, environ)


@pytest.mark.parametrize("name", ["STILLHOUSE_FINE_TUNING__BASES", "STILLHOUSE_PRICES", "STILLHOUSE_GATEWAY"])
def test_a_list_or_table_in_the_environment_is_json(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: a list is written "):
        load(None, {"STILLHOUSE_DATA": "elsewhere", name: "tiny"})


def test_where_the_file_is_looked_for(tmp_path: Path) -> None:
    assert find_config(None, {}, tmp_path) is None
    file = written(tmp_path, SMALLEST)
    assert find_config(None, {}, tmp_path) == file
    assert find_config(None, {"STILLHOUSE_CONFIG": "/other.toml"}, tmp_path) == Path("/other.toml")
    assert find_config(Path("/mine.toml"), {"STILLHOUSE_CONFIG": "/other.toml"}, tmp_path) == Path("/mine.toml")


def test_secrets_come_from_environment_or_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("from-file\n", encoding="utf-8")
    text = f"""
[upstreams.a]
base_url = "https://x/v1"
auth = "key"
api_key_env = "A_KEY"
worker_key_env = "W_KEY"
[upstreams.b]
base_url = "https://x/v1"
auth = "key"
api_key_file = "{key}"
"""
    upstreams = load(written(tmp_path, text), {}).upstreams
    environ = {"A_KEY": "a", "W_KEY": "w"}
    assert secret(upstreams["a"], environ) == "a"
    assert secret(upstreams["a"], environ, worker=True) == "w"
    assert secret(upstreams["a"], {}) is None
    assert secret(upstreams["b"], {}) == "from-file"
    assert secret(upstreams["b"], {}, worker=True) is None


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ('api_key_env = "A_KEY"', "upstreams.a has no key: put it into the environment variable A_KEY"),
        ('api_key_file = "/nowhere/key"', "upstreams.a.api_key_file /nowhere/key: No such file or directory"),
        ('api_key_file = "/dev/null"', "upstreams.a has no key: put it into the file /dev/null"),
        (f'api_key_file = "{sys.executable}"', f"upstreams.a.api_key_file {sys.executable} is no text in UTF-8"),
    ],
)
def test_a_missing_secret_is_one_line(tmp_path: Path, place: str, says: str) -> None:
    file = written(tmp_path, f'[upstreams.a]\nbase_url = "https://x/v1"\nauth = "key"\n{place}')
    with pytest.raises(ConfigError) as caught:
        check_secrets(load(file, {}), {})
    assert str(caught.value) == says


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError):
        load(None, {}).gateway.port = 1  # type: ignore[misc]
