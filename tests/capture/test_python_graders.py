"""Python graders: code in a process of its own, that gets nowhere and is stopped in time."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capture.graders import Sample, make_grader
from capture.graders.means import Means
from capture.graders.python_process import PythonProcesses
from capture.settings import GraderSettings, PythonGraderSettings


@pytest.fixture
def processes() -> Iterator[PythonProcesses]:
    made = PythonProcesses(PythonGraderSettings(allowed=True, cpu_s=2, wall_s=20, memory_mb=256))
    yield made
    made.close()


def graded(processes: PythonProcesses | None, body: str, output: Any = "yes", reference: Any = None) -> float | None:
    source = "def grade(sample, item):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    grader = make_grader("g", GraderSettings(type="python", source=source), Means(python=processes))
    return grader.score(Sample(output=output, reference=reference))


def test_code_grades_and_is_brought_into_range(processes: PythonProcesses) -> None:
    assert graded(processes, "return 0.25") == 0.25
    assert graded(processes, "return 7") == 1
    assert graded(processes, "return len(sample['output_text']) / 10") == 0.3
    assert (
        graded(
            processes, "return float(sample['output_json']['n'] == item['reference_json']['n'])", '{"n": 1}', {"n": 1}
        )
        == 1
    )
    assert graded(processes, "import json, re, math\nprint('noise')\nreturn 1") == 1


def test_without_leave_there_is_no_score() -> None:
    assert graded(None, "return 1") is None


def test_it_waits_for_a_reference_that_it_reads(processes: PythonProcesses) -> None:
    assert graded(processes, "return float(item['reference'] == 'yes')") is None


@pytest.mark.parametrize(
    "body",
    [
        "return 'high'",
        "return True",
        "return float('nan')",
        "raise SystemExit",
        "1 / 0",
        "import os\nos._exit(0)",
        "return len('x' * 10**10)",
        "while True: pass",
        "import socket\nsocket.create_connection(('127.0.0.1', 1))",
        "import socket\nsocket.getaddrinfo('localhost', 1)",
        "import subprocess\nsubprocess.run(['/bin/true'])\nreturn 1",
        "import os\nos.system('true')\nreturn 1",
        "import os\nos.fork()\nreturn 1",
        "open('/etc/passwd').read()\nreturn 1",
        "import os\nos.listdir('/')\nreturn 1",
        "import os\nos.write(3, b'{\"score\": 1}\\n' * 100)\nos._exit(0)",
        "import ctypes\nctypes.CDLL(None)\nreturn 1",
    ],
)
def test_what_it_may_not_do_gives_no_score_and_harms_no_other(processes: PythonProcesses, body: str) -> None:
    if "os.write" not in body:
        assert graded(processes, body) is None
    assert graded(processes, "return 1") == 1


@pytest.mark.parametrize("line", ['{"score": "x"}', '{"score": null}', '{"score": NaN}', f'{{"score": 1{"0" * 400}}}'])
def test_a_forged_answer_gives_no_score_and_harms_no_other(processes: PythonProcesses, line: str) -> None:
    forging = [
        "import os",
        "for number in range(3, 9):",
        "    try:",
        f"        os.write(number, {line.encode() + chr(10).encode()!r})",
        "    except OSError:",
        "        pass",
        "os._exit(0)",
    ]
    assert graded(processes, "\n".join(forging)) is None
    assert graded(processes, "return 1") == 1


def test_it_writes_nothing(processes: PythonProcesses, tmp_path: Path) -> None:
    target = tmp_path / "written"
    assert graded(processes, f"open({str(target)!r}, 'w').write('x')\nreturn 1") is None
    assert not target.exists()


def test_it_knows_nothing_of_the_environment(processes: PythonProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    assert "SECRET_KEY" in os.environ
    assert graded(processes, "import os\nreturn float('SECRET_KEY' in os.environ)") == 0


def test_source_that_fails_gives_no_score(processes: PythonProcesses) -> None:
    for source in ("def grade(", "x = 1", "raise ValueError"):
        grader = make_grader("g", GraderSettings(type="python", source=source), Means(python=processes))
        assert grader.score(Sample(output="x")) is None


def test_a_slow_answer_is_given_up() -> None:
    processes = PythonProcesses(PythonGraderSettings(allowed=True, wall_s=1.5))
    assert graded(processes, "import time\ntime.sleep(600)\nreturn 1") is None
    processes.close()


def test_a_large_output_passes(processes: PythonProcesses) -> None:
    assert graded(processes, "return float(len(sample['output_text']) == 2_000_000)", "x" * 2_000_000) == 1
