"""What the console does by filters and on its page Operations, by the command."""

import json
from pathlib import Path

import pytest

from capture.db import Store
from capture.traffic import TrafficFilter, count_exchanges
from console.cli import run
from tests.factories.full_store import World


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_filters_and_acts_on_them(at_full: tuple[World, Store], capsys: pytest.CaptureFixture[str]) -> None:
    _, store = at_full
    assert run(["traffic", "list", "--arm", "student", "--where", "review=none", "--limit", "3", "--json"]) == 0
    rows = said(capsys)
    assert {row["arm"] for row in rows} == {"student"}
    label = str(rows[0]["label"])
    wanted = TrafficFilter(arm="student", label=label)
    many = count_exchanges(store, wanted)
    assert many
    assert run(["traffic", "review-all", "accept", "--arm", "student", "--where", f"label={label}", "--yes"]) == 0
    assert f"accept: {many} exchanges" in capsys.readouterr().out
    assert run(["traffic", "erase-all", "--arm", "student", "--where", f"label={label}", "--yes"]) == 0
    assert count_exchanges(store, wanted) == 0


@pytest.mark.parametrize("where", ["text=", "text= ", "score_to=0.2", "score_from=0.5"])
def test_a_part_that_narrows_nothing_erases_nothing(
    where: str, at_full: tuple[World, Store], capsys: pytest.CaptureFixture[str]
) -> None:
    _, store = at_full
    before = count_exchanges(store, TrafficFilter())
    assert run(["traffic", "erase-all", "--where", where, "--yes"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert count_exchanges(store, TrafficFilter()) == before > 0


@pytest.mark.parametrize("where", ["nonsense", "colour=red", "review=perhaps", "since=noon"])
def test_a_filter_that_there_is_not(
    where: str, at_full: tuple[World, Store], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["traffic", "list", "--where", where]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_keys_with_limits(at_full: tuple[World, Store], capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["keys", "create", "--name", "n", "--limit", "requests_per_minute=60", "--limit", "monthly_usd=1.5"]) == 0
    )
    capsys.readouterr()
    assert run(["keys", "list", "--json"]) == 0
    limits = next(row["limits"] for row in said(capsys) if row["name"] == "n")
    assert limits == {"requests_per_minute": 60, "tokens_per_minute": None, "concurrency": None, "monthly_usd": 1.5}
    assert run(["keys", "create", "--name", "n", "--limit", "requests_per_minute=0"]) == 2


def test_operations(at_full: tuple[World, Store], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["operations", "counters", "--json"]) == 0
    quick = next(row for row in said(capsys) if row["task"] == "triage")
    assert (quick["stored"], quick["difference"]) == (181, None)
    assert run(["operations", "counters", "--count", "--json"]) == 0
    assert isinstance(next(row for row in said(capsys) if row["task"] == "triage")["difference"], int)
    for verb in ("upstreams", "audit", "settings"):
        assert run(["operations", verb, "--json"]) == 0
        assert said(capsys)


def test_a_build_is_previewed(at_full: tuple[World, Store], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["datasets", "preview", "triage", "--minimum-score", "category=1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["looked"] == found["passed"] + sum(found["drops"].values())
    assert found["drops"]["low_score:category"] > 0


def test_a_file_s_rows_become_a_dataset(
    at_full: tuple[World, Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"role": "assistant", "content": '{"category": "bug"}'}
    questions = [{"role": "user", "content": f"{word} {word}"} for word in "abcdefghijklmnopqrstuvwxyz"]
    lines = [json.dumps({"messages": [question, answer]}) for question in questions]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, "{broken"]))
    assert run(["datasets", "import", "triage", str(tmp_path / "rows.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "to train" in said
    assert "1 bad_line" in said
    assert run(["datasets", "import", "triage", str(tmp_path / "rows.jsonl"), "--form", "csv"]) == 2
    assert run(["datasets", "import", "nobody", str(tmp_path / "rows.jsonl")]) == 2
    assert run(["datasets", "import", "triage", str(tmp_path / "nowhere.jsonl")]) == 1
