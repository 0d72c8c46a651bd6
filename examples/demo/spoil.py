"""How the demo does harm: a process killed under load, and a student made worse."""

import os
import signal
from pathlib import Path

from safetensors.torch import load_file, save_file
from sqlalchemy import select

from capture.db import Store
from students.tables import student_servers


def kill_server(store: Store, student_id: str) -> int:
    """Kills the process that serves a student, with SIGKILL; returns its process id."""
    with store.read() as connection:
        found = select(student_servers.c.pid).where(student_servers.c.student_id == student_id)
        pid: int = connection.execute(found).scalar_one()
    os.kill(pid, signal.SIGKILL)
    return pid


def spoil(student: Path, base: Path, strength: float) -> None:
    """Leaves only `strength` (0 to 1) of what fine-tuning changed: weights = base + strength · (student − base).

    Both are folders with one model.safetensors of the same tensors. Done in place, by a rename.
    """
    before, after = load_file(base / "model.safetensors"), load_file(student / "model.safetensors")
    mixed = {
        name: (before[name].float().lerp(weights.float(), strength)).to(weights.dtype)
        for name, weights in after.items()
    }
    fresh = student / "model.safetensors.new"
    try:
        save_file(mixed, fresh, metadata={"format": "pt"})
        fresh.rename(student / "model.safetensors")
    finally:
        fresh.unlink(missing_ok=True)
