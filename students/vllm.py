"""Owns the command by which vLLM serves local students: merged ones as they are, adapters on their common base."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from capture.errors import RefusedError
from students.registry import Student

ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Placed:
    """A student and the folder of its model; `base` is the folder of its base."""

    student: Student
    folder: Path
    base: Path

    @property
    def adapter(self) -> Path | None:
        """The LoRA adapter's folder, where one was kept: the student's own, or `adapter` inside it."""
        return next((place for place in (self.folder, self.folder / "adapter") if (place / ADAPTER).exists()), None)


def vllm_command(placed: Sequence[Placed], port: int) -> str:
    """One line of shell. Several students share a server only as adapters of one base.

    Raises RefusedError for students that cannot share one, and for a folder that is gone.
    """
    gone = [one.student.name for one in placed if not one.folder.is_dir()]
    if not placed or gone:
        raise RefusedError(f"no model folder for {', '.join(gone) or 'nobody'}: only local students can be served")
    bases = {one.base for one in placed}
    adapters = [(one.student.name, one.adapter) for one in placed]
    if all(adapter is not None for _, adapter in adapters) and len(bases) == 1:
        rank = max(_rank(adapter) for _, adapter in adapters if adapter is not None)
        modules = [f"{name}={adapter}" for name, adapter in adapters]
        wanted = ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(len(placed))]
        words = [str(bases.pop()), *wanted, "--lora-modules", *modules]
    elif len(placed) == 1:
        words = [str(placed[0].folder), "--served-model-name", placed[0].student.name]
    else:
        raise RefusedError("these are merged models, or of several bases: give each a server of its own")
    length = max(one.student.view.context_tokens for one in placed)
    common = ["--dtype", "bfloat16", "--max-model-len", str(length), "--host", "127.0.0.1", "--port", str(port)]
    return shlex.join(["vllm", "serve", *words, *common, "--enable-prefix-caching"])


def _rank(adapter: Path) -> int:
    """Of the smallest size that vLLM offers and the adapter fits in."""
    own = int(json.loads((adapter / ADAPTER).read_text(encoding="utf-8"))["r"])
    return next(size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= own)
