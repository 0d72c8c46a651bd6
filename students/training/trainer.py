"""The protocol that every trainer keeps: what it is asked for, what it tells meanwhile, what comes out."""

from collections.abc import Iterator
from typing import Literal, Protocol

import msgspec


class TrainingPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training, in full: the same plan on the same machine gives the same weights.

    `rows` are JSONL files of {"messages": […], "tools"?: […]} as the student will see requests, the answer last; loss
    is taken on the assistant's messages alone. `folder` is where the finished model goes, `run_folder` where the run
    keeps its checkpoints, its progress and its log.
    """

    base: str  # folder of a base: safetensors, tokenizer, chat template
    base_name: str
    rows: tuple[str, ...]
    folder: str
    run_folder: str
    method: Literal["lora", "full"] = "lora"
    epochs: float = 3.0
    learning_rate: float = 1e-3  # at its peak
    rank: int = 16
    layers: int | None = None  # LoRA on the last so many alone: no gradient has to reach those before; None: on all
    alpha: float = 32.0
    adapter: bool = False  # it is kept in a folder of its own inside the model's
    batch_size: int = 8
    max_tokens: int = 1024  # longer rows are counted and left out
    validation: float = 0.0  # share of the rows that is held back to watch the loss
    patience: int = 0  # stop after so many epochs without a lower validation loss; 0: never
    minimum_rows: int = 10
    seed: int = 7
    threads: int = 0  # 0: one for each core
    checkpoint_every_s: float = 20.0
    card: dict[str, str] = {}  # what the model card says about where the student came from
    name: str = ""  # of the fine-tune, unlike any other's: hosted trainers find their job again by it
    suffix: str = ""  # what its owner wants to find in a hosted model's name
    validation_rows: tuple[str, ...] = ()  # files of rows for the validation loss, in place of a share of `rows`
    hyperparameters: dict[str, int | float | str] = {}  # for a hosted trainer, as OpenAI names them; rest: its choice


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a training stands; losses are nats per answer token, None while unknown."""

    step: int
    total_steps: int
    loss: float | None = None
    validation_loss: float | None = None
    tokens_per_s: float | None = None
    seconds_left: float | None = None
    said: str | None = None  # worth an event of its own: what a hosted trainer reports, or why it is waited for


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """The finished student: a folder of its own (merged safetensors in bf16, tokenizer, model card).

    From a hosted trainer: `model` at its upstream, no folder, no hash; the loss is 0 where it told none.
    """

    folder: str
    weights_hash: str  # sha256 of model.safetensors
    trained_tokens: int  # tokens of all the rows, each time that they were seen
    rows: int
    dropped: dict[str, int]  # reason -> rows left out
    steps: int
    loss: float
    validation_loss: float | None
    seconds: float
    model: str | None = None
    cost_usd: float | None = None


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    rows: int
    tokens: int  # that will be trained on, over all epochs
    seconds: float
    cost_usd: float | None  # None: unknown; 0: this machine


class Trainer(Protocol):
    """Local or hosted. A run is named by a string that outlives the worker that started it."""

    def estimate(self, plan: TrainingPlan) -> Estimate:
        """What the plan would take, without starting it."""

    def start(self, plan: TrainingPlan) -> str:
        """Starts a run, or finds the one that this plan has started before; returns its name.

        Raises RefusedError for what could never be trained (too few rows, a base without a chat template) and
        DiskError without room; at the latest, `watch` raises them.
        """

    def watch(self, run: str) -> Iterator[Progress]:
        """Progress until the run ends, whether done or cancelled; raises the error that ended it otherwise.

        Taken up again by another worker, it first sees that the run goes on.
        """

    def cancel(self, run: str) -> None:
        """Asks the run to end at its next step; keeps what it has saved. For a run that has ended: nothing."""

    def artefact(self, run: str) -> Artefact | None:
        """What came out; None while the run is unfinished, or when it was cancelled."""
