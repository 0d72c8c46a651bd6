"""Owns the bar of an evaluation: who is close enough to the teacher, and what that says about training at all."""

from collections.abc import Collection, Sequence

from students.report import Arm, Bar, Report, Standing


def bar_of(arms: Sequence[Arm], gates: Sequence[str], margin: float, unlicensed: Collection[str] = ()) -> Bar:
    """The standing of every arm but the teacher; gates that are unlicensed judges say nothing of it."""
    own = (arm for arm in arms if arm.role != "teacher")
    standings = {arm.student_id: standing_of(arm, gates, margin, unlicensed) for arm in own}
    return Bar(gates=list(gates), margin=margin, standings=standings)


def standing_of(arm: Arm, gates: Sequence[str], margin: float, unlicensed: Collection[str] = ()) -> Standing:
    """`reaches`: on every gate the whole interval lies above -margin; `misses`: on one of them all of it lies below."""
    found = [None if gate in unlicensed else arm.differences.get(gate) for gate in gates]
    if any(figure is not None and figure.high < -margin for figure in found):
        return "misses"
    sure = all(figure is not None and figure.low >= -margin for figure in found)
    return "reaches" if sure and found else "open"


def sentences(arms: Sequence[Arm], bar: Bar) -> list[str]:
    """What the bar says about prompting, in sentences for a person; nothing where no base was shown examples."""
    said = []
    for rival in (arm for arm in arms if arm.role == "few_shot"):
        said.append(_of_prompting(rival, bar))
        said += [
            _of_student(arm, rival, bar) for arm in arms if arm.role == "student" and rival.student_id in arm.versus
        ]
    return said


def prompting(report: Report) -> list[str]:
    """What a report says of each base that was shown examples."""
    bar = report.bar
    return [] if bar is None else [_of_prompting(arm, bar) for arm in report.arms if arm.role == "few_shot"]


def beats(arm: Arm, other: str, gates: Sequence[str], *, proven: bool) -> bool:
    """Whether an arm's scores lie above another's (an arm's id): on no gate below, on one of them above.

    `proven`: by the whole interval instead of the mean, and then on every gate not proven below.
    """
    found = [arm.versus.get(other, {}).get(gate) for gate in gates]
    known = [figure for figure in found if figure is not None]
    if not known or len(known) < len(found):
        return False
    if proven:
        return any(figure.low > 0 for figure in known) and all(figure.high >= 0 for figure in known)
    return any(figure.mean > 0 for figure in known) and all(figure.mean >= 0 for figure in known)


def _of_prompting(rival: Arm, bar: Bar) -> str:
    within = f"within {100 * bar.margin:g} points of the teacher on {', '.join(bar.gates)}"
    match bar.standings[rival.student_id]:
        case "reaches":
            return f"Prompting alone reaches the bar: {rival.name} is {within}. Nothing needs to be trained."
        case "misses":
            return f"Prompting alone misses the bar: {rival.name} is not {within}. Training has something to gain."
        case _:
            return f"Whether prompting alone reaches the bar is open: {rival.name} may or may not be {within}."


def _of_student(student: Arm, rival: Arm, bar: Bar) -> str:
    parts = [
        f"{100 * figure.mean:+.1f} points on {gate} ({100 * figure.low:+.1f} to {100 * figure.high:+.1f})"
        for gate in bar.gates
        if (figure := student.versus[rival.student_id].get(gate)) is not None
    ]
    return f"{student.name} against {rival.name}: {', '.join(parts) or 'no gate could judge both'}."
