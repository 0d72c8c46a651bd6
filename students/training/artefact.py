"""The finished student's folder: weights, tokenizer and model card, there whole or not at all."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError

from capture.errors import DiskError
from students.training.learner import Learner
from students.training.trainer import Artefact, TrainingPlan

RECORD = "artefact.json"
WEIGHTS = "model.safetensors"
ADAPTER = "adapter"


def find(folder: str) -> Artefact | None:
    """What was finished here before, if anything."""
    record = Path(folder) / RECORD
    return msgspec.json.decode(record.read_bytes(), type=Artefact) if record.exists() else None


def publish(learner: Learner, tokenizer: Any, plan: TrainingPlan, artefact: Artefact) -> Artefact:
    """Writes the folder next to its place and renames it there. `artefact` comes back with the weights' hash.

    It ends the learner's use. Raises DiskError without room.
    """
    target = Path(plan.folder)
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        if plan.adapter and plan.method == "lora":
            learner.save_adapter(fresh / ADAPTER)
        model = learner.merged()
        model.generation_config.do_sample = True  # else servers answer greedily, whatever temperature is asked for
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        finished = msgspec.structs.replace(artefact, weights_hash=hash_file(fresh / WEIGHTS))
        (fresh / "README.md").write_text(card(plan, finished), encoding="utf-8")
        (fresh / RECORD).write_bytes(msgspec.json.encode(finished))
        for path in fresh.rglob("*"):
            _sync(path)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise DiskError(f"{target} cannot be written: {error}: make room and start again") from error
    return finished


def card(plan: TrainingPlan, artefact: Artefact) -> str:
    """The model card, in Markdown."""
    lines = [f"# {Path(plan.folder).name}", "", f"A student of Stillhouse, fine-tuned from `{plan.base_name}`.", ""]
    told = {
        **plan.card,
        "method": _method(plan),
        "rows": str(artefact.rows),
        "rows left out": ", ".join(f"{count} {reason}" for reason, count in artefact.dropped.items()) or "none",
        "epochs": f"{plan.epochs:g}",
        "learning rate": f"{plan.learning_rate:g}",
        "batch size": str(plan.batch_size),
        "seed": str(plan.seed),
        "steps": str(artefact.steps),
        "trained tokens": str(artefact.trained_tokens),
        "loss": f"{artefact.loss:.4f}",
        "validation loss": "–" if artefact.validation_loss is None else f"{artefact.validation_loss:.4f}",
        "weights (sha256)": artefact.weights_hash,
    }
    return "\n".join([*lines, "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in told.items()), ""])


def _method(plan: TrainingPlan) -> str:
    if plan.method == "full":
        return "full"
    beside = f", the adapter beside it in {ADAPTER}/" if plan.adapter else ""
    where = f", on its last layers ({plan.layers})" if plan.layers else ""
    return f"LoRA, rank {plan.rank}, alpha {plan.alpha:g}{where}, merged{beside}"


def hash_file(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
