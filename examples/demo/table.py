"""The table at the end of the demo, read from the store that the console reads."""

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from capture.tables import exchanges
from examples.demo.story import TASK, Story
from students import rollouts
from students.report import Figure


def print_table(story: Story) -> None:
    """Holdout scores, the share over time, cost and latency by arm, and what clients felt."""
    console = Console(file=story.screen.out, highlight=False, width=120)
    console.print(_scores(story))
    console.print(_shares(story))
    console.print(_arms(story))
    errors = sum(reply.error is not None for reply in story.replies)
    console.print(f"bad answers that clients got from the spoilt student before the roll-back: {story.bad_answers()}")
    console.print(f"client errors: {errors} of {len(story.replies)} requests")


def _scores(story: Story) -> Table:
    table = Table(title="On the sealed holdout: mean score and its 95 % interval", title_justify="left")
    graders = ("category", "priority", "summary")
    for heading in ("arm", "rows", *graders):
        table.add_column(heading)
    for role, arm in sorted(story.arms().items()):
        table.add_row(_name(story, role), str(arm.rows), *(_figure(arm.scores.get(grader)) for grader in graders))
    return table


def _name(story: Story, arm: str) -> str:
    """`fallback` is the teacher's answer, too."""
    return f"{arm} (a stand-in)" if story.machine.teacher.command and arm in ("teacher", "fallback") else arm


def _figure(figure: Figure | None) -> str:
    return "–" if figure is None else f"{figure.mean:.1%}  ({figure.low:.1%} to {figure.high:.1%})"


def _shares(story: Story) -> Table:
    table = Table(title="The student's share over time, and why", title_justify="left")
    for heading in ("after", "share", "verdict"):
        table.add_column(heading)
    verdicts = rollouts.list_verdicts(story.desk.store, story.rollout_id)
    for verdict in verdicts:
        seconds = int(verdict.at - verdicts[0].at)
        table.add_row(f"{seconds // 60}:{seconds % 60:02d}", f"{verdict.share:.0%}", verdict.sentence)
    return table


def _arms(story: Story) -> Table:
    table = Table(title="What clients got, by arm", title_justify="left")
    for heading in ("arm", "requests", "mean ms", "tokens in", "tokens out", "cost, US dollars"):
        table.add_column(heading)
    counted = select(
        exchanges.c.arm,
        func.count(),
        func.avg(exchanges.c.duration_ms),
        func.sum(exchanges.c.input_tokens),
        func.sum(exchanges.c.output_tokens),
        func.sum(exchanges.c.cost_usd),
    ).where(exchanges.c.task == TASK)
    with story.desk.store.read() as connection:
        for arm, count, mean, tokens_in, tokens_out, cost in connection.execute(counted.group_by(exchanges.c.arm)):
            price = "unknown" if cost is None else f"{cost:.4f}{_of_price(story, arm)}"
            table.add_row(
                _name(story, arm), str(count), f"{mean:.0f}", str(tokens_in or 0), str(tokens_out or 0), price
            )
    return table


def _of_price(story: Story, arm: str) -> str:
    if arm == "student":
        return " (it runs here)"
    return " (a made-up price)" if story.machine.teacher.command else ""
