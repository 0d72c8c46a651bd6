"""How fast the local trainer is beside a plain trl `SFTTrainer` on the same rows and settings, in one run, as a ratio.

Run: python -m benchmarks.training [--base BASE] [--rows 200] [--rounds 2] [--models FOLDER]

Both train LoRA of the same rank on the same modules for one epoch, by AdamW with the same batch size, seed and peak
rate, with the loss on the assistant's tokens only, each in a process of its own, by turns. A rate counts the tokens of
the rows (prompt and answer, no padding) over the seconds of the training steps: loading and saving stand outside.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from students import bases
from students.training.trainer import TrainingPlan

SYSTEM = "Sort the ticket. Answer in JSON with category, priority and a short summary of at most ten words."
LABELS = ("billing", "delivery", "login", "refund", "other")


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.jsonl"
        rows.write_text("".join(json.dumps(_row(number)) + "\n" for number in range(options.rows)), encoding="utf-8")
        base = bases.pull(options.base, options.models or folder / "models")
        rates: dict[str, list[float]] = {"ours": [], "trl": []}
        for turn in range(options.rounds):
            for who in ("ours", "trl") if turn % 2 == 0 else ("trl", "ours"):
                rates[who].append(_measured(who, base, options.base, rows, folder / f"{who}{turn}"))
                print(f"round {turn + 1}: {who:4} {rates[who][-1]:8.1f} tokens/s", flush=True)
    ours, theirs = median(rates["ours"]), median(rates["trl"])
    print(f"median of {options.rounds}: ours {ours:.1f}, trl {theirs:.1f} tokens/s, ratio {ours / theirs:.2f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--models", type=Path, help="where bases are kept; else fetched anew")
    return parser.parse_args()


def _row(number: int) -> dict[str, Any]:
    label = LABELS[number % len(LABELS)]
    story = f"Hello, about my {label} question {number}: " + "it has been like this since Monday. " * (1 + number % 5)
    answer = json.dumps({"category": label, "priority": "normal", "summary": f"a {label} question since Monday"})
    turns = [("system", SYSTEM), ("user", story), ("assistant", answer)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def _measured(who: str, base: Path, name: str, rows: Path, folder: Path) -> float:
    """Tokens a second of one training, in a process of its own."""
    folder.mkdir()
    plan = TrainingPlan(
        base=str(base),
        base_name=name,
        rows=(str(rows),),
        folder=str(folder / "model"),
        run_folder=str(folder),
        epochs=1,
        checkpoint_every_s=1e6,
    )
    (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
    command = [sys.executable, "-m", "benchmarks.training_turn", who, str(folder / "plan.json")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
