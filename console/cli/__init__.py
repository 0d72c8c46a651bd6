"""The `stillhouse` command: a file a noun, all of them on console/verbs.py."""

import sys
from collections.abc import Sequence

import typer
from rich.console import Console

from capture.errors import StillhouseError
from console.cli import (
    better_targets,
    datasets,
    evaluations,
    keys,
    looking_at_tasks,
    loop,
    models,
    operations,
    processes,
    rollouts,
    setup,
    students,
    tasks,
    traffic,
)

app = typer.Typer(
    name="stillhouse",
    help="A distillation gateway: capture a large model's traffic, train a small one on it, "
    "move the traffic on proof.\n\n--config FILE and --data FOLDER may stand anywhere on the line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
setup.register(app)
processes.register(app)
better_targets.register(datasets.app)
looking_at_tasks.register(tasks.app)
for name, noun in (
    ("tasks", tasks.app),
    ("traffic", traffic.app),
    ("datasets", datasets.app),
    ("students", students.app),
    ("evaluations", evaluations.app),
    ("rollouts", rollouts.app),
    ("loop", loop.app),
    ("keys", keys.app),
    ("models", models.app),
    ("operations", operations.app),
):
    app.add_typer(noun, name=name)


GLOBAL = ("--config", "--data")


def hoist(argv: Sequence[str]) -> list[str]:
    """`argv` with `--config X` and `--data X` moved to its front, where the command's root reads them."""
    front: list[str] = []
    rest: list[str] = []
    position = 0
    while position < len(argv):
        word = argv[position]
        if word in GLOBAL and position + 1 < len(argv):
            front += [word, argv[position + 1]]
            position += 2
        else:
            (front if word.startswith(tuple(f"{option}=" for option in GLOBAL)) else rest).append(word)
            position += 1
    return front + rest


def run(argv: Sequence[str]) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 used or configured wrongly."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        result = app(hoist(argv), prog_name="stillhouse", standalone_mode=False)
    except StillhouseError as error:
        errors.print(f"stillhouse: {error}", markup=False)
        return error.exit_code
    except typer.TyperException as error:
        if said := error.format_message().rstrip("."):  # nothing to say where help was printed
            used = getattr(error, "ctx", None)
            how = f"{used.command_path if used else 'stillhouse'} --help"
            errors.print(f"stillhouse: {said}; `{how}` says how it is used", markup=False)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        return 1
    return result if isinstance(result, int) else 0


def main() -> None:
    sys.exit(run(sys.argv[1:]))
