"""The local trainer: one subprocess a run, which dies with this process and goes on where it was."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from tokenizers import Tokenizer

import capture.errors
from capture.errors import OperationError, StillhouseError
from students.tether import Child
from students.training import artefact
from students.training.rows import read_rows
from students.training.run import CANCEL, ERROR, EVENTS, Failure
from students.training.trainer import Artefact, Estimate, Progress, TrainingPlan

PLAN, LOG = "plan.json", "training.log"
POLL_S = 0.2
RESTARTS = 3  # after kills that nobody here asked for, without a step in between
# Measured on two cores of an EPYC with avx512_bf16: SmolLM2-135M (270 MB in bf16) under rank-16 LoRA.
_TOKENS_PER_S_AND_BYTE = 400 * 270e6
_FORWARD = 0.25  # of a step: what has to be computed whichever layers learn
_TURN_TOKENS = 5  # what a chat template puts around a message, about

# A thread spins this often (some 10 µs) before it sleeps: the next piece of a step mostly comes sooner than a wake-up.
_ENV = {"GOMP_SPINCOUNT": "2000"}


class LocalTrainer:
    """Runs are named by their run folder."""

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}
        self._closed = False

    def estimate(self, plan: TrainingPlan) -> Estimate:
        """Tokens by the base's tokenizer; seconds by the size of its weights and a measured speed."""
        tokenizer = Tokenizer.from_file(str(Path(plan.base) / "tokenizer.json"))
        counts = [_tokens(tokenizer, row) for row in read_rows(plan.rows)]
        used = [count for count in counts if count <= plan.max_tokens]
        tokens = round(sum(used) * plan.epochs * (1 - plan.validation))
        weights = sum(path.stat().st_size for path in Path(plan.base).glob("*.safetensors"))
        seconds = tokens * weights / _TOKENS_PER_S_AND_BYTE * _work(plan)
        return Estimate(rows=len(used), tokens=tokens, seconds=seconds, cost_usd=0.0)

    def start(self, plan: TrainingPlan) -> str:
        """See Trainer.start. A run whose process has gone is taken up from its last checkpoint."""
        folder = Path(plan.run_folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = folder / f"{PLAN}.new"
        fresh.write_bytes(msgspec.json.encode(plan))
        fresh.replace(folder / PLAN)
        (folder / ERROR).unlink(missing_ok=True)
        if not (folder / CANCEL).exists() and self.artefact(str(folder)) is None:
            self._ensure(str(folder))
        return str(folder)

    def watch(self, run: str) -> Iterator[Progress]:
        """See Trainer.watch. A process that was killed is started again, at most RESTARTS times without a new step.

        After `close` it ends, as if cancelled: the run itself is not, and goes on with the next `start`.
        """
        folder, read, restarts = Path(run), 0, 0
        if self.artefact(run) is not None or (folder / CANCEL).exists():
            return
        child = self._ensure(run)
        while True:
            ended = child.ended.wait(POLL_S)
            news, read = _events(folder / EVENTS, read)
            yield from news
            if not ended:
                continue
            if child.returncode == 0 or self._closed:
                return
            _raise_failure(folder)
            restarts = 1 if any(progress.step for progress in news) else restarts + 1
            if restarts > RESTARTS or (child.returncode or 0) > 0:
                raise OperationError(f"the training process ended with {child.returncode}: see {folder / LOG}")
            child = self._ensure(run)

    def cancel(self, run: str) -> None:
        """See Trainer.cancel. The mark lies in the run folder, so a worker started later knows it too."""
        if Path(run).exists():
            (Path(run) / CANCEL).touch()

    def artefact(self, run: str) -> Artefact | None:
        """See Trainer.artefact."""
        path = Path(run) / PLAN
        if not path.exists():
            return None
        return artefact.find(msgspec.json.decode(path.read_bytes(), type=TrainingPlan).folder)

    def close(self, within_s: float = 5) -> None:
        """Ends this process's runs; each keeps its last checkpoint, and goes on when it is started again."""
        self._closed = True
        for child in self._children.values():
            child.stop(within_s)
        self._children.clear()

    def _ensure(self, run: str) -> Child:
        child = self._children.get(run)
        if child is None or child.ended.is_set():
            line = (sys.executable, "-m", "students.training.run", str(Path(run) / PLAN))
            child = self._children[run] = Child(line, Path(run) / LOG, _ENV)
        return child


def _events(path: Path, start: int) -> tuple[list[Progress], int]:
    """Whole lines from a byte offset on, and the offset behind them."""
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    return [msgspec.json.decode(line, type=Progress) for line in whole.splitlines()], start + len(whole)


def _raise_failure(folder: Path) -> None:
    """The error that the child wrote down, as itself; nothing when it wrote none."""
    path = folder / ERROR
    if not path.exists():
        return
    failure = msgspec.json.decode(path.read_bytes(), type=Failure)
    kind = getattr(capture.errors, failure.kind, OperationError)
    raise kind(failure.message) if issubclass(kind, StillhouseError) else OperationError(failure.message)


def _work(plan: TrainingPlan) -> float:
    """The part of a step's time that is left where only the last layers learn: measured with 12, 20 and 30 of 30."""
    if plan.method != "lora" or plan.layers is None:
        return 1.0
    config = msgspec.json.decode((Path(plan.base) / "config.json").read_bytes())
    learning: float = min(1.0, plan.layers / config.get("num_hidden_layers", plan.layers))
    return _FORWARD + (1 - _FORWARD) * learning


def _tokens(tokenizer: Tokenizer, row: Mapping[str, object]) -> int:
    messages = row["messages"]
    if not isinstance(messages, list):
        return 0
    said = [str(message.get("content") or "") for message in messages]
    return sum(len(tokenizer.encode(text).ids) + _TURN_TOKENS for text in said)
