"""The rooms' arrows, and no import circle anywhere: DESIGN's diagram held as a test."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "capture": set(),
    "students": {"capture"},
    "gateway": {"students", "capture"},
    "console": {"students", "capture"},
}
WEB = {"fastapi", "starlette", "uvicorn", "streamlit"}


def modules() -> dict[str, ast.Module]:
    found = {}
    for room in MAY_IMPORT:
        for path in (ROOT / room).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(name: str, tree: ast.Module, known: set[str]) -> set[str]:
    """Modules that `name` imports anywhere, as dotted names; relative imports are not used in this repository."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            module = node.module or ""
            for alias in node.names:
                full = f"{module}.{alias.name}"
                found.add(full if full in known else module)
    return found - {name}


MODULES = modules()
GRAPH = {name: imported(name, tree, set(MODULES)) for name, tree in MODULES.items()}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_arrows(name: str) -> None:
    room = name.split(".")[0]
    others = {target.split(".")[0] for target in GRAPH[name]} & set(MAY_IMPORT) - {room}
    assert others <= MAY_IMPORT[room]
    if room == "capture":
        assert not {target.split(".")[0] for target in GRAPH[name]} & WEB


def test_no_circles() -> None:
    ours = {name: {target for target in targets if target in MODULES} for name, targets in GRAPH.items()}
    while leaves := [name for name, targets in ours.items() if not targets]:
        for leaf in leaves:
            del ours[leaf]
        ours = {name: targets - set(leaves) for name, targets in ours.items()}
    assert not ours, f"import circle among {sorted(ours)}"


def attributes(tree: ast.Module) -> set[str]:
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    return {f"{node.value.id}.{node.attr}" for node in found if isinstance(node.value, ast.Name)}


def test_environment_is_read_in_one_place() -> None:
    readers = {name for name, tree in MODULES.items() if attributes(tree) & {"os.environ", "os.getenv"}}
    entries = {"console.cli.context", "console.serve", "console.app"}
    assert {name for name in readers - entries if not name.endswith("__main__")} <= {"capture.settings"}
