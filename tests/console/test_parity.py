"""What the console's pages do and read, the `stillhouse` command does and reads too, by the same functions."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import console
from console import bettering, bulk, evaluating, looping, reads, registering, verbs

ROOT = Path(console.__file__).parent
VERBS = (verbs, bulk, bettering, evaluating, looping, registering)
READS = [importlib.import_module(f"console.reads.{found.name}") for found in pkgutil.iter_modules(reads.__path__)]

ONLY_ON_PAGES = {
    "console.reads.tasks.busiest": "which task a page opens with",
    "console.reads.tasks.grader_names": "what a field offers; `tasks show` has the graders",
    "console.reads.tasks.graders_of": "what a form offers; `tasks show` has them",
    "console.reads.tasks.list_tasks": "`tasks list` tells spend beside it, by capture.traffic.volumes",
    "console.reads.tasks.parsed": "a form's JSON; the command reads TOML",
    "console.reads.estimates.trainers": "what a field offers; `operations settings` has the upstreams",
    "console.reads.exchanges.reach": "how far a page looks in one go; `traffic list` looks at all",
    "console.reads.fine_tunes.losses": "points of a chart; `students events` has the loss of each step",
    "console.reads.rollouts.pair_counts": "a sentence in place of evidence that is not there yet",
}
ONLY_IN_COMMANDS = {
    "console.bulk.export_all": "writes a file on the machine where it is typed",
    "console.verbs.import_dataset": "reads a file on the machine where it is typed",
    "console.registering.vllm_lines": "a command to type",
    "console.verbs.pull_base": "a fine-tune started on a page fetches its base by itself",
}


def functions_of(module: ModuleType) -> Iterator[str]:
    """Full names of a module's own public functions."""
    for name, value in inspect.getmembers(module, inspect.isfunction):
        if value.__module__ == module.__name__ and not name.startswith("_"):
            yield f"{module.__name__}.{name}"


def used_in(folder: str) -> set[str]:
    """Full names of all that the files of a folder name as `module.attribute`, or import by name."""
    found: set[str] = set()
    for file in (ROOT / folder).glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        modules: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for one in node.names:
                    modules[one.asname or one.name] = f"{node.module}.{one.name}"
                    found.add(f"{node.module}.{one.name}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                found.add(f"{modules[node.value.id]}.{node.attr}")
    return found


def test_every_verb_is_on_a_page_and_in_the_command() -> None:
    known = {name for module in VERBS for name in functions_of(module)}
    helpers = {"console.verbs.together", "console.bulk.until", "console.bulk.lines"}
    on_pages, in_commands = used_in("views"), used_in("cli")
    assert known - helpers - on_pages == set(ONLY_IN_COMMANDS)
    assert known - helpers - in_commands == set()


@pytest.mark.parametrize("module", READS, ids=lambda module: module.__name__)
def test_what_a_page_reads_the_command_reads(module: ModuleType) -> None:
    shown = set(functions_of(module)) & used_in("views")
    missing = shown - used_in("cli")
    assert missing == {name for name in ONLY_ON_PAGES if name in shown}


def test_no_reason_outlives_its_function() -> None:
    every = {name for module in (*VERBS, *READS) for name in functions_of(module)}
    assert set(ONLY_ON_PAGES) | set(ONLY_IN_COMMANDS) <= every
