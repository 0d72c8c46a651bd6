"""Rollouts: start one, see where it stands and why, and steer it."""

from typing import Any

import streamlit as st

from console import charts, verbs
from console.reads import rollouts as reads
from console.views import evidence as evidence_part
from console.views import page, starting_rollout
from console.views.words import milliseconds, moment, money, percent, plain, score, when
from students import ledger, registry
from students import rollouts as room
from students.policy import Policy
from students.sentences import points, stage_name
from students.tally import Evidence

STATES = {
    "running": ("blue", "running"),
    "paused": ("orange", "paused"),
    "full": ("green", "at full"),
    "rolled_back": ("red", "rolled back"),
    "aborted": ("gray", "aborted"),
    "superseded": ("gray", "superseded"),
}
ACTS = {
    "running": ("pause", "promote", "abort"),
    "paused": ("resume", "promote", "abort"),
    "full": ("abort",),
}
ICONS = {"pause": "pause", "resume": "play_arrow", "promote": "upgrade", "abort": "undo"}
EFFECTS = {
    "pause": "The share stays where it is; harm still rolls it back, nothing advances.",
    "resume": "Verdicts move the share again.",
    "promote": "The rollout goes to its next stage whatever the evidence says.",
    "abort": "All of its traffic goes back at once, and the rollout ends.",
}
VERDICTS = {
    "advance": ":green[:material/arrow_upward:]",
    "hold": ":gray[:material/pause:]",
    "roll_back": ":red[:material/undo:]",
}
SHOWN_VERDICTS = 8
SEEN = "rollout-seen"
BY_A_PERSON = ":blue[:material/person:]"


def show() -> None:
    chosen = page.query("rollout")
    if chosen is None:
        st.title("Rollouts")
        task = page.of_task()
        starting_rollout.form(task)
        listed(task)
        return
    page.back("rollouts", "All rollouts")
    rollout = page.ask(room.load_rollout, chosen)
    st.title(f"Rollout of {plain(rollout.task)}")
    top = st.container()
    _acts(rollout)  # first of all: a press is about what was shown until now
    with top:
        heading(chosen)
    opened(chosen)
    _account(rollout)


@page.live(5)
def listed(task: str | None) -> None:
    found = page.ask(room.list_rollouts, task)
    if not found:
        page.empty(
            "No rollout yet",
            "A rollout starts in shadow: the student answers beside the teacher and nobody sees it. Its share grows "
            "only by proof. Train and evaluate a student first.",
            "stairs",
        )
        st.page_link("views/students.py", label="To the students", icon=":material/school:")
        return
    names = {student.id: student.name for student in page.ask(registry.list_students)}
    for rollout in found:
        with st.container(border=True, gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                _badges(rollout)
                st.markdown(f"**{plain(rollout.task)}** to {plain(names.get(rollout.student_id, rollout.student_id))}")
                st.space("stretch")
                query = {"rollout": rollout.id}
                st.page_link("views/rollouts.py", label="Open", icon=":material/open_in_full:", query_params=query)
            st.caption(f"share {percent(rollout.share)} · {_standing(rollout)}")


def _badges(rollout: room.Rollout) -> None:
    colour, word = STATES.get(rollout.state, ("gray", rollout.state))
    st.badge(word, color=colour)  # type: ignore[arg-type]
    if rollout.dry_run:
        st.badge("dry run", color="violet")


def _standing(rollout: room.Rollout) -> str:
    """What was said last, or why it ended, and when it began: "last verdict: minimum not met · begun …"."""
    said = plain((rollout.reason or "no verdict yet").replace("_", " "))
    if rollout.ended_at is not None:
        why = f"ended: {said}"
    else:
        why = f"last verdict: {said}" if rollout.state in reads.MOVING else "at full"
    return f"{why} · begun {when(rollout.created_at, page.zone())}"


@page.live(3)
def heading(rollout_id: str) -> None:
    """Where it stands; a rollout that has changed its state brings other buttons with it."""
    rollout = page.ask(room.load_rollout, rollout_id)
    with st.container(horizontal=True, vertical_alignment="center"):
        _badges(rollout)
        st.markdown(f"share **{percent(rollout.share)}**")
        label = plain(page.ask(registry.load_student, rollout.student_id).name)
        query = {"student": rollout.student_id}
        st.page_link("views/students.py", label=label, icon=":material/school:", query_params=query)
        query = {"task": rollout.task}
        st.page_link("views/traffic.py", label="Traffic", icon=":material/forum:", query_params=query)
    st.caption(_standing(rollout))
    seen: room.Rollout | None = st.session_state.get(SEEN)
    if seen is not None and seen.id == rollout.id and seen.state != rollout.state:
        st.session_state[SEEN] = rollout
        st.rerun(scope="app")


@page.live(3)
def opened(rollout_id: str) -> None:
    rollout = page.ask(room.load_rollout, rollout_id)
    policy = reads.policy(rollout)
    evidence = page.ask(reads.evidence, rollout, page.now())
    _ladder(rollout, policy, evidence)
    evidence_part.shown(rollout, policy, evidence)
    _history(rollout)
    _losses(rollout, policy)


def _acts(rollout: room.Rollout) -> None:
    ahead = reads.following(rollout) is not None
    acts = [verb for verb in ACTS.get(rollout.state, ()) if ahead or verb != "promote"]
    if not acts:
        st.markdown(f"It ended {when(rollout.ended_at, page.zone())}.")
        return
    seen: room.Rollout = st.session_state.get(SEEN) or rollout
    st.session_state[SEEN] = rollout
    if seen.id != rollout.id:
        seen = rollout
    with st.container(horizontal=True):
        for verb in acts:
            with st.popover(verb.capitalize(), icon=f":material/{ICONS[verb]}:", key=f"act-{verb}"):
                _confirm(verb, rollout, seen.stage)


def _confirm(verb: str, rollout: room.Rollout, seen: int) -> None:
    """`seen`: the stage that this page showed when the button was pressed."""
    st.markdown(f"{EFFECTS[verb]} It is at **{percent(rollout.share)}** of **{plain(rollout.task)}** now.")
    needs, off = verb in ("promote", "abort"), page.below_operator()
    reason = st.text_input("Reason" if needs else "Reason (may be empty)", key=f"reason-{verb}", max_chars=300)
    if st.button(f"Yes, {verb}", type="primary", disabled=off or (needs and not reason.strip()), key=f"yes-{verb}"):
        with page.acting(f"{verb}: done"):
            verbs.steer(page.desk(), verb, rollout.id, reason, seen)


def _ladder(rollout: room.Rollout, policy: Policy, evidence: Evidence) -> None:
    st.header("Ladder", anchor=False)
    with st.container(horizontal=True, gap="small"):
        for stage, share in enumerate(policy.shares):
            passed = stage < rollout.stage or rollout.state == "full"
            here = stage == rollout.stage and rollout.state != "full"
            icon = "check" if passed else ("flag" if here else "radio_button_unchecked")
            colour: Any = "green" if passed else ("blue" if here and rollout.state in reads.MOVING else "gray")
            st.badge(stage_name(share), icon=f":material/{icon}:", color=colour)
    if rollout.state not in reads.MOVING:
        return
    following = reads.following(rollout)
    if following is None:
        st.markdown(reads.AT_LAST_STAGE)
        return
    st.markdown(f"Next is **{plain(stage_name(following))}**. It needs all of:")
    marks = {True: ":green[:material/check_circle:]", False: ":gray[:material/pending:]"}
    st.markdown("  \n".join(f"{marks[done]} {plain(text)}" for done, text in reads.needs(policy, evidence, following)))


def _history(rollout: room.Rollout) -> None:
    st.header("Verdicts", anchor=False)
    found = page.ask(room.list_verdicts, rollout.id)
    zone = page.zone()
    steps = [(at, verdict.share, verdict.kind) for verdict in found if (at := moment(verdict.at, zone))]
    if steps and rollout.ended_at is None and (at := moment(page.now(), zone)):
        steps.append((at, rollout.share, "now"))
    if len({share for _, share, _ in steps}) > 1:
        st.altair_chart(charts.shares(steps), key="shares", alt="Student share by verdict")
    newest = found[::-1]
    _told(newest[:SHOWN_VERDICTS])
    if len(newest) > SHOWN_VERDICTS:
        with st.expander(f"Older verdicts ({len(newest) - SHOWN_VERDICTS})", key="older-verdicts"):
            _told(newest[SHOWN_VERDICTS:])


def _told(found: list[room.VerdictRow]) -> None:
    zone = page.zone()
    for verdict in found:
        icon = VERDICTS.get(verdict.kind, BY_A_PERSON)
        who = "" if verdict.who == "controller" else f", {verdict.who}"
        with st.container(gap=None):
            st.markdown(f"{icon} {plain(verdict.sentence)}")
            st.caption(f"{when(verdict.at, zone)} · share {percent(verdict.share)}{plain(who)}")


def _losses(rollout: room.Rollout, policy: Policy) -> None:
    grader = policy.gates[0]
    lost = page.ask(reads.worst_pairs, rollout.id, grader)
    with st.expander(f"Pairs that the student lost by {plain(grader)} ({len(lost)})", key="lost"):
        if not lost:
            st.markdown("None among the newest thousand.")
            return
        zone = page.zone()
        st.dataframe(
            {
                "At": [moment(row.at, zone) for row in lost],
                "Student": [score(row.student) for row in lost],
                "Teacher": [score(row.teacher) for row in lost],
                "Difference": [points(row.difference or 0.0) for row in lost],
                "Served": ["yes" if row.served else "no" for row in lost],
                "Error": [row.error or "" for row in lost],
                "Exchange": [f"/traffic?exchange={row.exchange_id}" for row in lost],
            },
            hide_index=True,
            column_config={"Exchange": st.column_config.LinkColumn(display_text="open")},
            alt="Pairs that the student lost",
        )


def _account(rollout: room.Rollout) -> None:
    """The ledger since the rollout began; on demand, since it adds up every exchange of that time."""
    with st.container(key="account"):
        st.header("Ledger", anchor=False)
        st.caption(
            "What the student's answers cost and saved since this rollout began, and when it has paid for itself."
        )
        if st.toggle("Add it up", key="ledger"):
            _added_up(rollout)


def _added_up(rollout: room.Rollout) -> None:
    with st.spinner("Adding up …"):
        found = page.ask(ledger.account, rollout.task, rollout.created_at, page.now())
    figures = {
        "Would have cost": money(found.would_have_cost_usd),
        "Saved": money(found.saved_usd),
        "Background calls": money(sum(found.background.values())),
        "Sooner, on average": milliseconds(found.latency_gained_ms),
    }
    with st.container(horizontal=True):
        for label, value in figures.items():
            st.metric(label, value, width=170)
    arms = found.arms
    st.dataframe(
        {
            "Arm": list(arms),
            "Answers": [arm.requests for arm in arms.values()],
            "Cost": [money(arm.cost_usd) for arm in arms.values()],
            "Of unknown price": [arm.unpriced for arm in arms.values()],
            "Mean time": [milliseconds(arm.mean_ms) for arm in arms.values()],
        },
        hide_index=True,
        alt="Answers, cost and time by arm",
    )
    if found.unpriced_models:
        names = plain(", ".join(found.unpriced_models))
        st.caption(f"No price is known for {names}: set it under [prices] in the settings.")
    if found.break_even_at is None:
        st.caption("When it will have paid for itself is unknown, or never: a price is missing, or nothing is saved.")
    elif found.break_even_at <= page.now():
        st.caption("It has paid for itself already.")
    else:
        at = when(found.break_even_at, page.zone())
        st.caption(f"As it saves of late, it will have paid for itself by {at}.")


if __name__ == "__main__":
    show()
