"""Local training: what is learnt, the same weights however often it was killed, and an end with whoever started it."""

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from capture.errors import DiskError, OperationError, RefusedError
from students import bases
from students.training import Artefact, Progress, TrainingPlan, learner
from students.training.artefact import ADAPTER
from students.training.batches import epoch_ends, learning_rate, schedule, shared_prefix
from students.training.learner import Learner
from students.training.local import LOG, LocalTrainer
from students.training.loop import train
from students.training.rows import Lesson, encode_row, encode_rows, read_rows, split_validation

WORDS = {"refund": "money back return", "delivery": "parcel courier late", "login": "password account code"}
FILLER = ["the", "my", "we", "please", "a", "for", "is", "on", "it", "now", "with", "and", "very"]


def ticket(draw: random.Random) -> dict[str, Any]:
    category = draw.choice(list(WORDS))
    words = [*draw.choices(FILLER, k=6), *draw.choices(WORDS[category].split(), k=2)]
    draw.shuffle(words)
    return {
        "messages": [
            {"role": "system", "content": "Sort the support ticket. Answer in JSON."},
            {"role": "user", "content": " ".join(words)},
            {"role": "assistant", "content": json.dumps({"category": category})},
        ]
    }


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bases.pull("tiny", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    return AutoTokenizer.from_pretrained(base)


@pytest.fixture
def plan(base: Path, tmp_path: Path) -> TrainingPlan:
    draw = random.Random(1)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(ticket(draw)) + "\n" for _ in range(120)))
    return TrainingPlan(
        base=str(base),
        base_name="tiny",
        rows=(str(rows),),
        folder=str(tmp_path / "student"),
        run_folder=str(tmp_path / "run"),
        method="full",
        epochs=6,
        learning_rate=3e-3,
        batch_size=16,
        threads=1,
    )


@pytest.fixture
def trainer() -> Iterator[LocalTrainer]:
    trainer = LocalTrainer()
    yield trainer
    trainer.close()


def run_here(plan: TrainingPlan) -> tuple[Artefact, list[Progress]]:
    told: list[Progress] = []
    made = train(plan, told.append, lambda: False)
    assert made is not None
    return made, told


def elsewhere(plan: TrainingPlan, name: str, **changes: Any) -> TrainingPlan:
    root = Path(plan.folder).parent / name
    return msgspec.structs.replace(plan, folder=str(root / "student"), run_folder=str(root / "run"), **changes)


def test_a_student_comes_out_that_has_learnt_the_task(plan: TrainingPlan) -> None:
    made, told = run_here(msgspec.structs.replace(plan, card={"task": "triage", "dataset": "triage@1"}))
    assert told[0].step == 0
    assert told[-1].step == told[-1].total_steps == made.steps == 48
    assert made.rows == 120
    assert made.loss < 0.3
    folder = Path(made.folder)
    card = (folder / "README.md").read_text()
    assert "triage@1" in card
    assert made.weights_hash in card
    student, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = [ticket(random.Random(seed)) for seed in range(100, 120)]
    right = sum(answer(student, tokenizer, row) == row["messages"][-1]["content"] for row in asked)
    assert right >= 16


def answer(student: Any, tokenizer: Any, row: dict[str, Any]) -> str:
    prompt = row["messages"][:-1]
    inputs = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = student.generate(**inputs, max_new_tokens=24, do_sample=False)
    said: str = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


def test_killed_in_the_middle_it_ends_with_the_same_weights(plan: TrainingPlan, trainer: LocalTrainer) -> None:
    undisturbed, _ = run_here(elsewhere(plan, "undisturbed"))
    plan = msgspec.structs.replace(plan, checkpoint_every_s=0)
    run = trainer.start(plan)
    killed = 0
    steps = []
    for progress in trainer.watch(run):
        steps.append(progress.step)
        if killed < 2 and progress.step > 10 * (killed + 1):
            child = next(process for process in psutil.Process().children() if process.is_running())
            child.send_signal(signal.SIGKILL)
            killed += 1
    made = trainer.artefact(run)
    assert killed == 2
    assert made is not None
    assert steps.count(0) == 1, "it began anew instead of going on"
    assert made.weights_hash == undisturbed.weights_hash
    assert made.trained_tokens == undisturbed.trained_tokens


def test_lora_goes_on_to_the_same_weights_too(plan: TrainingPlan) -> None:
    plan = msgspec.structs.replace(plan, method="lora", rank=4, epochs=1)
    undisturbed, _ = run_here(elsewhere(plan, "undisturbed"))
    stopped: list[int] = []

    def once_in_the_middle() -> bool:
        stopped.append(len(stopped))
        return len(stopped) == 4

    assert train(plan, lambda _progress: None, once_in_the_middle) is None
    made, told = run_here(plan)
    assert told[0].step == 3
    assert made.weights_hash == undisturbed.weights_hash


def test_without_bf16_lora_learns_in_float32_and_comes_out_as_ever(
    plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "dtype_on", lambda _device: "float32")
    lora = elsewhere(plan, "lora", method="lora", epochs=0.5, learning_rate=1e-2)
    assert Learner(lora)._model.dtype == torch.float32
    made, _ = run_here(lora)
    assert AutoModelForCausalLM.from_pretrained(made.folder).dtype == torch.bfloat16


def test_another_seed_gives_other_weights(plan: TrainingPlan) -> None:
    first, _ = run_here(elsewhere(plan, "first", epochs=1))
    second, _ = run_here(elsewhere(plan, "second", epochs=1, seed=8))
    assert first.weights_hash != second.weights_hash


def test_a_finished_run_is_not_trained_again(plan: TrainingPlan, trainer: LocalTrainer) -> None:
    made, _ = run_here(msgspec.structs.replace(plan, epochs=0.5))
    run = trainer.start(plan)
    assert list(trainer.watch(run)) == []
    assert trainer.artefact(run) == made


def test_a_cancelled_run_ends_and_leaves_no_student(plan: TrainingPlan, trainer: LocalTrainer) -> None:
    run = trainer.start(msgspec.structs.replace(plan, epochs=500))
    last = None
    for progress in trainer.watch(run):
        last = progress
        trainer.cancel(run)
    assert last is not None
    assert last.step < last.total_steps
    assert trainer.artefact(run) is None
    assert not Path(plan.folder).exists()
    assert list(LocalTrainer().watch(run)) == []


def test_too_few_rows_are_refused_by_name(plan: TrainingPlan, trainer: LocalTrainer) -> None:
    run = trainer.start(msgspec.structs.replace(plan, minimum_rows=121))
    with pytest.raises(RefusedError, match="120 usable rows, at least 121"):
        list(trainer.watch(run))
    assert not Path(plan.folder).exists()


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """For processes that start meanwhile; to them it is as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("every_s", "said"), [(1e-3, "no checkpoint could be written"), (1e6, "cannot be written.*make room")]
)
def test_without_room_it_ends_with_a_reason_and_leaves_no_student(
    plan: TrainingPlan, trainer: LocalTrainer, every_s: float, said: str
) -> None:
    short = msgspec.structs.replace(plan, epochs=0.5, checkpoint_every_s=every_s)
    with files_no_larger_than(400_000):
        run = trainer.start(short)
    with pytest.raises(DiskError, match=said):
        list(trainer.watch(run))
    assert trainer.artefact(run) is None
    assert not list(Path(short.folder).parent.glob(".student*"))


def test_a_loss_that_is_no_number_ends_it(plan: TrainingPlan) -> None:
    with pytest.raises(OperationError, match="lower the learning rate"):
        run_here(msgspec.structs.replace(plan, learning_rate=1e30))


def test_a_base_without_a_chat_template_is_refused(plan: TrainingPlan, tmp_path: Path) -> None:
    bare = shutil.copytree(plan.base, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(RefusedError, match="no chat template"):
        run_here(msgspec.structs.replace(plan, base=str(bare)))


def test_a_training_that_always_breaks_is_given_up(plan: TrainingPlan, trainer: LocalTrainer) -> None:
    run = trainer.start(msgspec.structs.replace(plan, base=str(Path(plan.folder).parent / "gone")))
    with pytest.raises(OperationError, match=LOG):
        list(trainer.watch(run))


def test_a_child_dies_with_its_worker(plan: TrainingPlan, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(plan, epochs=5000)))
    script = (
        "import sys, msgspec\nfrom students.training import TrainingPlan\n"
        "from students.training.local import LocalTrainer\n"
        "trainer = LocalTrainer()\nplan = msgspec.json.decode(open(sys.argv[1], 'rb').read(), type=TrainingPlan)\n"
        "[print(progress.step, flush=True) for progress in trainer.watch(trainer.start(plan))]\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "plan.json")], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"0\n"
    child = psutil.Process(worker.pid).children()[0]
    worker.kill()
    worker.wait()
    worker.stdout.close()
    gone, alive = psutil.wait_procs([child], timeout=10)
    assert gone
    assert not alive


def test_an_estimate_counts_what_training_counts(plan: TrainingPlan, trainer: LocalTrainer) -> None:
    made, _ = run_here(plan)
    estimate = trainer.estimate(plan)
    assert estimate.rows == made.rows
    assert estimate.tokens == pytest.approx(made.trained_tokens, rel=0.15)
    assert estimate.cost_usd == 0
    assert 0 < estimate.seconds < 60


def test_the_adapter_is_kept_where_that_is_wished(plan: TrainingPlan) -> None:
    wished = elsewhere(plan, "lora", method="lora", epochs=1, learning_rate=1e-2, adapter=True)
    made, _ = run_here(wished)
    folder = Path(made.folder)
    merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(plan.base, dtype=torch.float32)
    adapted = AutoModelForCausalLM.from_pretrained(folder / ADAPTER, dtype=torch.float32)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        before, beside, after = (model(ids).logits for model in (base, adapted, merged))
    assert (beside - after).abs().max() < 0.05 * (before - after).abs().max()
    assert "the adapter beside it" in (folder / "README.md").read_text()
    assert not (Path(run_here(elsewhere(wished, "plain", adapter=False))[0].folder) / ADAPTER).exists()


def test_only_the_last_layers_learn_where_that_is_wished(plan: TrainingPlan, trainer: LocalTrainer) -> None:
    wished = elsewhere(plan, "lora", method="lora", epochs=0.5, learning_rate=1e-2, layers=1)
    made, _ = run_here(wished)
    base = AutoModelForCausalLM.from_pretrained(plan.base, dtype=torch.bfloat16).state_dict()
    student = AutoModelForCausalLM.from_pretrained(made.folder, dtype=torch.bfloat16).state_dict()
    changed = {name for name, weight in student.items() if not torch.equal(weight, base[name])}
    assert {name.split(".")[2] for name in changed} == {"1"}
    assert {name.split(".")[-2] for name in changed} >= {"q_proj", "o_proj", "down_proj"}
    assert "on its last layers (1)" in (Path(made.folder) / "README.md").read_text()
    all_of_them = msgspec.structs.replace(wished, layers=None)
    assert trainer.estimate(wished).seconds == pytest.approx(trainer.estimate(all_of_them).seconds * 0.625)
    with pytest.raises(RefusedError, match="has 2 layers"):
        Learner(msgspec.structs.replace(wished, layers=3))


def test_training_stops_when_nothing_is_gained(plan: TrainingPlan) -> None:
    hopeless = msgspec.structs.replace(plan, epochs=50, learning_rate=0.3, validation=0.25, patience=1)
    made, told = run_here(hopeless)
    assert made.steps < told[0].total_steps
    assert made.validation_loss is not None
    assert made.validation_loss == min(loss for progress in told if (loss := progress.validation_loss) is not None)
    assert told[-1].said is not None
    assert told[-1].said.startswith("stopped early")


def test_rows_that_are_given_for_validation_take_none_from_training(plan: TrainingPlan, tmp_path: Path) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text("".join(json.dumps(ticket(random.Random(n))) + "\n" for n in range(5)))
    made, _ = run_here(msgspec.structs.replace(plan, epochs=1, validation=0.3, validation_rows=(str(held),)))
    assert made.steps == 8  # by sixteens: every one of the 120
    assert made.validation_loss is not None


def test_only_what_the_assistant_says_is_learnt(tokenizer: Any) -> None:
    row = {
        "messages": [
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "one"},
            {"role": "user", "content": "second"},
            {"role": "assistant", "content": "two"},
        ]
    }
    lesson = encode_row(row, tokenizer)
    assert lesson is not None
    learnt = [token for token, wanted in zip(lesson.ids, lesson.learnt, strict=True) if wanted]
    assert tokenizer.decode(learnt) == "one<|im_end|>two<|im_end|>"
    assert lesson.ids[-1] == tokenizer.eos_token_id
    prompt = tokenizer.apply_chat_template(row["messages"][:1], add_generation_prompt=True, return_dict=False)
    assert lesson.ids[: lesson.prompt_length] == tuple(prompt)


def test_rows_that_do_not_fit_are_counted_never_cut(tokenizer: Any) -> None:
    draw = random.Random(2)
    rows = [ticket(draw) for _ in range(5)]
    long = {"messages": [{"role": "user", "content": "word " * 500}, rows[0]["messages"][-1]]}
    silent = {"messages": rows[0]["messages"][:-1]}
    unweighted = {"messages": [*rows[0]["messages"][:-1], {**rows[0]["messages"][-1], "weight": 0}]}
    lessons = encode_rows([*rows, long, silent, unweighted], tokenizer, 256)
    assert lessons.dropped == {"too long": 1, "nothing to learn": 2}
    assert [row.ids for row in lessons.kept] == [encoded.ids for row in rows if (encoded := encode_row(row, tokenizer))]


def test_a_file_that_is_none_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a"}]}\n\n{"prompt": "no"}\n')
    with pytest.raises(RefusedError, match=r"rows\.jsonl, line 3"):
        list(read_rows([str(path)]))


def test_a_shared_beginning_changes_nothing_but_the_time(plan: TrainingPlan, tokenizer: Any) -> None:
    draw = random.Random(3)
    lessons = list(encode_rows([ticket(draw) for _ in range(4)], tokenizer, 256).kept)
    prefix = shared_prefix([row.ids for row in lessons], 1000)
    assert prefix >= 16
    learner = Learner(plan)
    together = learner.loss([lessons])
    learnt = [sum(row.learnt) for row in lessons]
    alone = sum(learner.loss([[row]]) * count for row, count in zip(lessons, learnt, strict=True)) / sum(learnt)
    assert together == pytest.approx(alone, rel=1e-5)


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=200),
    size=st.integers(1, 32),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 5),
)
@settings(max_examples=50, deadline=None)
def test_every_epoch_sees_every_row_once(lengths: list[int], size: int, epochs: int, seed: int) -> None:
    steps = schedule(lengths, size, epochs, seed)
    assert steps == schedule(lengths, size, epochs, seed)
    assert Counter(row for step in steps for row in step) == dict.fromkeys(range(len(lengths)), epochs)
    ends = epoch_ends(len(lengths), size, len(steps))
    assert len(ends) == epochs
    assert max(ends) == len(steps)
    assert all(len(step) <= size for step in steps)


def test_a_part_of_an_epoch_is_a_part_of_its_steps() -> None:
    lengths = [10] * 100
    assert len(schedule(lengths, 10, 1.5, 1)) == 15
    assert schedule(lengths, 10, 1.5, 1) == schedule(lengths, 10, 2, 1)[:15]
    assert schedule([], 10, 1, 1) == []


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0.05 < rates[-1] < 0.06


def test_validation_rows_are_not_trained_on() -> None:
    rows = [Lesson((at,), (True,)) for at in range(100)]
    kept, held = split_validation(rows, 0.1)
    assert len(held) == 10
    assert set(kept) | set(held) == set(rows)
    assert not set(kept) & set(held)
    assert split_validation(rows, 0) == (rows, [])
