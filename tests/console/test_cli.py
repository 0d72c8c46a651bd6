"""The `stillhouse` command: where its options stand, what it prints, how it exits."""

import json
import re
import socket
from pathlib import Path

import pytest

from capture.db import open_store
from capture.errors import OperationError
from capture.migrations import downgrade, is_current, upgrade
from capture.settings import load
from console.cli import hoist, run
from console.cli.setup import TEMPLATE
from console.supervise import check_ports
from tests.factories.login import LOGIN

CONFIG = """
[gateway]
default_upstream = "openai"
[upstreams.openai]
base_url = "http://127.0.0.1:9/v1"
[tasks.triage]
match = { model = "large" }
teacher = { upstream = "openai", model = "large" }
"""

SECRETS = f"""{LOGIN}
[upstreams.openai]
base_url = "http://127.0.0.1:9/v1"
auth = "key"
api_key_file = "/nowhere"
"""

SETTING = re.compile(r"# (\[|[a-z_]+ = )")


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    config = tmp_path / "stillhouse.toml"
    config.write_text(CONFIG)
    return ["--config", str(config), "--data", str(tmp_path / "data")]


def test_global_options_may_stand_anywhere() -> None:
    assert hoist(["tasks", "list", "--data", "x", "--json"]) == ["--data", "x", "tasks", "list", "--json"]
    assert hoist(["up", "--config=y"]) == ["--config=y", "up"]


def test_json_is_one_object_a_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tasks", "list", "--json", *options]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["task"] == "triage"


@pytest.mark.parametrize("noun", ["traffic", "datasets", "students", "keys", "rollouts"])
def test_an_empty_install_lists_nothing(noun: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    verb = "status" if noun == "rollouts" else "list"
    assert run([noun, verb, *options]) == 0
    assert capsys.readouterr().out == "nothing yet\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["traffic", "show", "nobody"], "nobody"),
        (["datasets", "show", "triage@7"], "triage@7"),
        (["students", "train", "triage@7"], "triage@7"),
        (["students", "serve", "nobody"], "nobody"),
        (["rollouts", "pause", "nobody"], "nobody"),
        (["tasks", "show", "nobody"], "there are: triage"),
    ],
)
def test_unknown_names_exit_2_with_one_line(
    words: list[str], said: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(["tasks", "list", *options])  # brings the file's tasks into the store
    capsys.readouterr()
    assert run([*words, *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["rollouts", "status", "--foo"], "No such option: --foo"),
        (["rollouts", "stats"], "No such command 'stats'. Did you mean 'status'"),
        (["rollouts", "promote"], "Missing argument 'rollout'; `stillhouse rollouts promote --help`"),
        (["rollouts", "start", "triage", "x", "--dry-run=maybe"], "--dry-run"),
        (["nonsense"], "`stillhouse --help` says how it is used"),
    ],
)
def test_a_line_that_nobody_understands_exits_2_and_says_why(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert said in told


def test_without_a_command_the_help_is_all_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert ("Usage: stillhouse" in out, err) == (True, "")


@pytest.mark.parametrize("config", ["x = = 1", "[gateway]\nunknown = 1", '[gateway]\nhost = "0.0.0.0"'])
def test_a_broken_config_exits_2_and_names_the_file(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(config)
    assert run(["tasks", "list", "--config", str(file), "--data", str(tmp_path / "data")]) == 2
    assert "broken.toml" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_init_writes_a_file_that_loads_and_never_writes_over_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "stillhouse.toml"
    assert run(["init", "--file", str(file)]) == 0
    assert run(["tasks", "list", "--config", str(file), "--data", str(tmp_path / "data")]) == 0
    assert run(["init", "--file", str(file)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_all_that_init_proposes_below_a_task_are_settings(tmp_path: Path) -> None:
    lines = TEMPLATE.read_text(encoding="utf-8").splitlines()
    begin = lines.index("# [tasks.triage]")
    proposed = [line.removeprefix("# ") if SETTING.match(line) else line for line in lines[begin:]]
    file = tmp_path / "stillhouse.toml"
    file.write_text("\n".join([*lines[:begin], *proposed]), encoding="utf-8")
    settings = load(file, {}, data=tmp_path)
    task = settings.tasks["triage"]
    assert [one.rate for one in task.sampling.strata] == [1.0, 0.5]
    assert (task.sampling.per_key, task.retention.days, task.judges.upstreams) == (10_000, 90, ("openai",))
    assert task.redaction.deny == ("ssn", "/metadata/address")
    assert settings.capture.retention.days == 30
    assert settings.python_graders.allowed


def test_doctor_names_what_is_missing(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json", *options]) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (missing,) = (row for row in found if row["level"] == "missing" and row["subject"] == "upstreams.openai")
    assert "cannot be reached" in missing["text"]
    levels = {row["subject"]: row["level"] for row in found}
    assert (levels["store"], levels["base model"], levels["data"]) == ("note", "note", "ok")
    assert not (tmp_path / "data").exists()


def test_doctor_sees_a_store_as_it_is(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Made, of another version, away: it says so, and everything else with it."""
    store = open_store(f"sqlite:///{tmp_path / 'data' / 'stillhouse.db'}")
    upgrade(store)
    assert (_doctor(options, capsys)["store"], _doctor(options, capsys)["worker"]) == ("ok", "note")
    downgrade(store, "base")
    assert "worker" not in (found := _doctor(options, capsys))
    assert (found["store"], found["upstreams.openai"], is_current(store)) == ("note", "missing", False)
    store.close()
    (tmp_path / "data" / "stillhouse.db").unlink()
    (tmp_path / "data" / "stillhouse.db").mkdir()
    assert (found := _doctor(options, capsys))["store"] == "missing"
    assert found["upstreams.openai"] == "missing"


def test_a_damaged_store_is_a_finding(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether nothing in its file is readable, or only one table is not; what else was found is told all the same."""
    file = tmp_path / "data" / "stillhouse.db"
    store = open_store(f"sqlite:///{file}")
    upgrade(store)
    with store.read() as connection:
        page = connection.exec_driver_sql("SELECT rootpage FROM sqlite_master WHERE name = 'leases'").scalar_one()
        size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    store.close()
    with file.open("r+b") as pages:
        pages.seek((page - 1) * size)
        pages.write(bytes([7]) * size)
    assert (found := _doctor(options, capsys))["store"] == found["upstreams.openai"] == "missing"
    assert run(["doctor", "--worker", *options]) == 1
    file.write_bytes(b"no database " * 1000)
    assert (found := _doctor(options, capsys))["store"] == found["upstreams.openai"] == "missing"
    assert run(["doctor", *options]) == 1
    assert f"{file} cannot be read (file is not a database): put a backup in its place" in capsys.readouterr().out


def test_doctor_looks_at_ports_and_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "stillhouse.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config.write_text(f"[console]\nport = {taken.getsockname()[1]}\n{SECRETS}")
        found = _doctor(["--config", str(config), "--data", str(tmp_path / "data")], capsys)
    assert (found["console.port"], found["console.login"], found["upstreams.openai"]) == ("note", "missing", "missing")


@pytest.mark.parametrize("option", ["--worker", "--students"])
def test_doctor_of_one_process_makes_nothing(option: str, options: list[str], tmp_path: Path) -> None:
    assert run(["doctor", option, *options]) == 0
    assert not (tmp_path / "data").exists()


def _doctor(options: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The level of each subject; of several findings about one, "missing" goes before all."""
    capsys.readouterr()
    run(["doctor", "--json", *options])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {row["subject"]: row["level"] for row in sorted(rows, key=lambda row: row["level"] == "missing")}


def test_a_taken_port_is_named_with_its_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OperationError, match=rf"127\.0\.0\.1:{port} is taken .*gateway\.port"):
            check_ports({"gateway.port": ("127.0.0.1", port)})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluations", "run", "triage@1", "--model", "openai/large", "--system", "nowhere.txt"], "nowhere.txt"),
        (["evaluations", "run", "triage@1", "--judge", "openai"], "UPSTREAM/MODEL"),
        (["datasets", "relabel", "triage@1", "openai/large", "--system", "nowhere.txt"], "nowhere.txt"),
        (["datasets", "relabel", "triage@1", "openai/"], "UPSTREAM/MODEL"),
        (["datasets", "build", "triage", "--minimum-score", "category=high"], "GRADER=LOWEST"),
        (["datasets", "preview", "triage", "--minimum-score", "category"], "GRADER=LOWEST"),
    ],
)
def test_options_that_cannot_be_read_exit_2_with_one_line(
    words: list[str], said: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
