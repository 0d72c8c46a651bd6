"""The model while it learns: its trainable weights, one step of gradient descent, its state, and the merged end."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, DynamicCache

from capture.errors import RefusedError
from students.processor import dtype_on
from students.training.batches import shared_prefix
from students.training.rows import Lesson
from students.training.trainer import TrainingPlan

LORA_ON = "all-linear"
MAX_NORM = 1.0  # gradients are clipped to it
_SHARED_FROM = 16  # tokens: a shorter common beginning is not worth a forward pass of its own
_EAGER_TO = 256  # tokens: up to here plain matrix products beat the fused attention on a CPU, by a sixth of a step


@dataclass(frozen=True)
class _Weight:
    """A trainable parameter and the float32 copy that the optimizer moves (itself, where it is float32 already).

    LoRA's small updates are lost in bf16's eight bits; with float32 adapters, on the other hand, every layer would
    convert its activations to and fro, which took a third of a step's time.
    """

    used: Tensor
    master: Tensor


class Learner:
    """A base, in bf16 where that is fast, under LoRA with float32 masters, or a whole model in float32 ("full")."""

    def __init__(self, plan: TrainingPlan) -> None:
        torch.manual_seed(plan.seed)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        lora = dtype_on(self._device.type) if plan.method == "lora" else "float32"
        dtype = torch.bfloat16 if lora == "bfloat16" else torch.float32
        model = AutoModelForCausalLM.from_pretrained(plan.base, dtype=dtype, local_files_only=True).to(self._device)
        self._adapted = _with_adapters(model, plan) if plan.method == "lora" else None
        self._model: Any = model
        self._weights = [_master(weight) for weight in model.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW([weight.master for weight in self._weights], weight_decay=0.0)

    def step(self, rows: Sequence[Lesson], learning_rate: float) -> float:
        """One step on these rows; returns their loss, in nats per learnt token."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self._loss(rows)
        loss.backward()
        for weight in self._weights:
            if weight.master is not weight.used and weight.used.grad is not None:
                weight.master.grad, weight.used.grad = weight.used.grad.float(), None
        torch.nn.utils.clip_grad_norm_([weight.master for weight in self._weights], MAX_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._hand_down()
        return float(loss.item())

    def loss(self, batches: Iterable[Sequence[Lesson]]) -> float:
        """The mean loss over batches, without learning."""
        total = tokens = 0.0
        with torch.no_grad():
            for rows in batches:
                learnt = sum(sum(row.learnt) for row in rows)
                total += float(self._loss(rows).item()) * learnt
                tokens += learnt
        return total / tokens

    def state(self) -> dict[str, Any]:
        """Everything that a later step depends on."""
        return {"weights": self.weights(), "optimizer": self._optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.load_weights(state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])

    def weights(self) -> list[Tensor]:
        return [weight.master.detach().clone() for weight in self._weights]

    def load_weights(self, weights: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for weight, saved in zip(self._weights, weights, strict=True):
                weight.master.copy_(saved)
        self._hand_down()

    def save_adapter(self, folder: Path) -> None:
        """LoRA's weights alone, in float32, as peft and vLLM load them; before `merged`. They name their base."""
        if self._adapted is None:
            raise ValueError("a whole model was trained: it has no adapter")
        self._adapted.float()
        self._hand_down()
        self._adapted.save_pretrained(str(folder), safe_serialization=True)

    def merged(self) -> Any:
        """The standalone model in bf16. Merging is done in float32, and ends this learner's use."""
        if self._adapted is None:
            return self._model.to(torch.bfloat16)
        self._adapted.float()
        self._hand_down()
        return self._adapted.merge_and_unload().to(torch.bfloat16)

    def _hand_down(self) -> None:
        with torch.no_grad():
            for weight in self._weights:
                if weight.master is not weight.used:
                    weight.used.copy_(weight.master)

    def _loss(self, rows: Sequence[Lesson]) -> Tensor:
        """Cross-entropy of the learnt tokens alone.

        Only their hidden states go through the output layer: with a vocabulary of 49,000 the others cost more than a
        layer each. What all rows begin with (the system prompt) is computed once, not once a row: the sums are the
        same. Rows are padded on the right, where causal attention never looks.
        """
        shared = shared_prefix([row.ids for row in rows], min(row.prompt_length for row in rows) - 1)
        shared = shared if shared >= _SHARED_FROM and len(rows) > 1 else 0
        length = max(len(row.ids) for row in rows) - shared
        fused = self._device.type != "cpu" or shared + length > _EAGER_TO
        self._model.set_attn_implementation("sdpa" if fused else "eager")
        ids = torch.zeros((len(rows), length), dtype=torch.long)
        learnt = torch.zeros((len(rows), length), dtype=torch.bool)
        for at, row in enumerate(rows):
            ids[at, : len(row.ids) - shared] = torch.tensor(row.ids[shared:])
            learnt[at, : len(row.ids) - shared] = torch.tensor(row.learnt[shared:])
        ids, learnt = ids.to(self._device), learnt.to(self._device)
        hidden = self._hidden(torch.tensor([rows[0].ids[:shared]], device=self._device), ids)
        logits = self._model.lm_head(hidden[:, :-1][learnt[:, 1:]])
        return functional.cross_entropy(logits.float(), ids[:, 1:][learnt[:, 1:]])

    def _hidden(self, prefix: Tensor, ids: Tensor) -> Tensor:
        """The last layer's output, shape (rows, length, width), of `ids` after a prefix common to all."""
        body = self._model.model
        if not prefix.numel():
            hidden: Tensor = body(input_ids=ids, use_cache=False).last_hidden_state
            return hidden
        cache = DynamicCache()
        body(input_ids=prefix, cache=cache, use_cache=True)
        for layer in cache.layers:
            layer.keys = layer.keys.expand(len(ids), -1, -1, -1)
            layer.values = layer.values.expand(len(ids), -1, -1, -1)
        after: Tensor = body(input_ids=ids, cache=cache, use_cache=True).last_hidden_state
        return after


def _with_adapters(model: Any, plan: TrainingPlan) -> Any:
    """Raises RefusedError for more layers than the base has."""
    where = {"target_modules": LORA_ON} if plan.layers is None else _last_layers(model, plan.layers, plan.base_name)
    config = LoraConfig(r=plan.rank, lora_alpha=plan.alpha, task_type="CAUSAL_LM", **where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft still asks transformers for a name that has changed
        return get_peft_model(model, config, autocast_adapter_dtype=False)


def _last_layers(model: Any, layers: int, base_name: str) -> dict[str, Any]:
    """peft takes numbers of layers only beside names of modules."""
    count = model.config.num_hidden_layers
    if layers > count:
        raise RefusedError(f"the base {base_name} has {count} layers: set `layers` to {count} at most")
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
    }
    return {"target_modules": sorted(linear), "layers_to_transform": list(range(count - layers, count))}


def _master(weight: Tensor) -> _Weight:
    same = weight.dtype == torch.float32
    return _Weight(weight, weight if same else weight.detach().float().clone())
