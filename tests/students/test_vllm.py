"""The command of the grown path: adapters of one base share a server, merged models have one each."""

import json
import shlex
from pathlib import Path

import pytest

from capture.errors import RefusedError
from capture.settings import ViewSettings
from students.registry import Student
from students.served import device_of
from students.vllm import Placed, vllm_command


def placed(folder: Path, name: str, rank: int | None) -> Placed:
    own = folder / name
    own.mkdir()
    if rank is not None:
        (own / "adapter").mkdir()
        (own / "adapter" / "adapter_config.json").write_text(json.dumps({"r": rank}))
    student = Student(
        id=f"st_{name}",
        name=f"ft:tiny:triage:{name}",
        task="triage",
        kind="local",
        base="tiny",
        fine_tune_id=None,
        dataset_id=None,
        folder=name,
        weights_hash=None,
        upstream=None,
        upstream_model=None,
        view=ViewSettings(context_tokens=1024),
        fingerprints=frozenset(),
        tools=False,
        created_at=0.0,
    )
    return Placed(student, own, folder / "base")


def test_adapters_share_a_server_of_their_base(tmp_path: Path) -> None:
    words = shlex.split(vllm_command([placed(tmp_path, "a", 16), placed(tmp_path, "b", 20)], 8000))
    assert words[:3] == ["vllm", "serve", str(tmp_path / "base")]
    assert words[words.index("--max-lora-rank") + 1] == "32"
    modules = words[words.index("--lora-modules") + 1 :][:2]
    assert modules == [f"ft:tiny:triage:{name}={tmp_path / name / 'adapter'}" for name in "ab"]


def test_a_merged_student_answers_under_its_name(tmp_path: Path) -> None:
    words = shlex.split(vllm_command([placed(tmp_path, "a", None)], 8001))
    assert words[2] == str(tmp_path / "a")
    assert words[words.index("--served-model-name") + 1] == "ft:tiny:triage:a"
    assert words[words.index("--max-model-len") + 1] == "1024"


def test_merged_students_do_not_share_a_server(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="a server of its own"):
        vllm_command([placed(tmp_path, "a", 8), placed(tmp_path, "b", None)], 8000)


def test_a_gpu_is_used_without_being_asked(tmp_path: Path) -> None:
    assert device_of(tmp_path) == "cpu"
    (tmp_path / "nvidiactl").touch()
    assert device_of(tmp_path) == "cpu"
    (tmp_path / "nvidia0").touch()
    assert device_of(tmp_path) == "cuda"
