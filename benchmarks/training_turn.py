"""One training of benchmarks/training.py, ours or trl's: prints the tokens of its rows a second of its steps."""

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from students.training.rows import encode_rows, read_rows
from students.training.trainer import TrainingPlan


def ours(plan: TrainingPlan) -> float:
    from students.training.loop import train

    made = train(plan, lambda _: None, lambda: False)
    if made is None:
        raise RuntimeError("the training was stopped")
    return made.trained_tokens / made.seconds


def plain(plan: TrainingPlan) -> float:
    """`SFTTrainer` as its documentation shows it: prompt and completion, LoRA, bf16 weights."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):  # type: ignore[misc]
        began = ended = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.ended = time.perf_counter()

    rows = list(read_rows(plan.rows))
    lines = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(plan.base, local_files_only=True)
    tokens = sum(len(lesson.ids) for lesson in encode_rows(rows, tokenizer, plan.max_tokens).kept)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    clock = Clock()
    settings = SFTConfig(
        output_dir=plan.run_folder,
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=1,
        weight_decay=0.0,
        max_grad_norm=1.0,
        max_length=plan.max_tokens,
        seed=plan.seed,
        bf16=False,  # the weights are bf16 already
        gradient_checkpointing=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(plan.base, dtype=torch.bfloat16, local_files_only=True),
        args=settings,
        train_dataset=Dataset.from_list(lines),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=plan.rank, lora_alpha=plan.alpha, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[clock],
    )
    trainer.train()
    return tokens * plan.epochs / (clock.ended - clock.began)


if __name__ == "__main__":
    asked = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=TrainingPlan)
    print(ours(asked) if sys.argv[1] == "ours" else plain(asked))
