"""Checkpoints of a run: written whole or not at all, and read back only for the plan that wrote them."""

import io
import os
from pathlib import Path
from typing import Any

import msgspec
import torch

from students.training.trainer import TrainingPlan

FILE = "checkpoint.pt"


class Standing(msgspec.Struct, kw_only=True):
    """What a run knows besides the weights; `step` counts the steps that are done."""

    step: int = 0
    trained_tokens: int = 0
    loss: float | None = None  # smoothed
    validation_loss: float | None = None
    best_validation_loss: float | None = None
    epochs_without_gain: int = 0
    seconds: float = 0.0


def save(folder: Path, plan: TrainingPlan, standing: Standing, state: dict[str, Any]) -> None:
    """Through a second file and a rename: a kill at any moment leaves the old checkpoint or the new one.

    Raises OSError: torch itself, writing to a full disk, would say RuntimeError.
    """
    content = {"plan": _key(plan), "standing": msgspec.json.encode(standing).decode(), "state": state}
    written = io.BytesIO()
    torch.save(content, written)
    fresh = folder / f"{FILE}.new"
    with fresh.open("wb") as file:
        file.write(written.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / FILE)


def load(folder: Path, plan: TrainingPlan) -> tuple[Standing, dict[str, Any]] | None:
    """The last checkpoint; None when there is none, or another plan's."""
    path = folder / FILE
    if not path.exists():
        return None
    content = torch.load(path, weights_only=True)
    if content["plan"] != _key(plan):
        return None
    return msgspec.json.decode(content["standing"], type=Standing), content["state"]


def _key(plan: TrainingPlan) -> str:
    return msgspec.json.encode(plan, order="sorted").decode()
