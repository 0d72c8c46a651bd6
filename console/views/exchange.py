"""One exchange opened: the conversation, what it cost and scored, who else answered it, and a person's review."""

from typing import Any

import streamlit as st

from capture import reviews
from capture.traffic import ExchangeRow, StoredExchange, load_exchange
from console import verbs
from console.reads import exchanges as reads
from console.views import conversation, difference, exchange_raw, page
from console.views.words import NONE, count, milliseconds, money, plain, score, short, when
from students.sentences import points

ARMS = {"teacher": "blue", "student": "green", "fallback": "orange"}
VERDICTS = {"accept": "green", "reject": "red", "correct": "violet"}
ORDERS = {
    "oldest": "oldest first",
    "uncertain": "most uncertain score first",
    "disagreeing": "lowest score first",
    "sampled": "a fair sample",
}
QUEUE = reviews.WINDOW
"""How far "Next" goes on before it begins anew."""


def opened(exchange_id: str) -> None:
    """Raises NotFoundError for an exchange that is not in the store."""
    found = page.ask(load_exchange, exchange_id)
    row = found.row
    _head(row)
    if row.task:
        _review(found)
    left, right = st.columns([5, 4], gap="medium")
    with left:
        st.markdown("## Request")
        conversation.request(found.request)
        st.markdown("## Answer")
        _answer(found)
        pairs = page.ask(reads.pairs_of, row.id)
        _compared(pairs)
    with right:
        _facts(row)
        _scores(found)
        _said(found)
        _lineage(row, pairs)
    exchange_raw.shown(found)


def _head(row: ExchangeRow) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        colour: Any = ARMS.get(row.arm, "gray")
        st.badge(row.arm, color=colour)
        good = row.status < 400 and row.complete
        st.badge(f"{row.status}" + ("" if row.complete else ", broken off"), color="green" if good else "red")
        if row.holdout:
            st.badge("holdout", icon=":material/lock:", color="gray")
        st.markdown(f"**{plain(row.task or 'no task')}**")
        st.caption(when(row.started_at, page.zone()))
    if row.cause or row.reason:
        st.caption(" · ".join(plain(part) for part in (row.cause, row.reason) if part))


def _answer(found: StoredExchange) -> None:
    if found.answer.error:
        st.error("The upstream answered with an error.", icon=":material/error:")
        st.json(found.answer.error)
    if found.answer.message:
        conversation.message({"role": "assistant", **found.answer.message}, "answer")
    elif not found.answer.error:
        st.caption("Nothing came back.")
    others = found.answer.choices[1:]
    if others:
        with st.expander(f"{len(others)} more choices", key="choices"):
            st.json(others, expanded=1)


def _compared(pairs: list[reads.PairTexts]) -> None:
    for pair in pairs:
        st.markdown("## Teacher and student")
        if pair.student is None:
            st.caption(f"The student erred: {plain(pair.error or 'no reason')}")
            continue
        said = " · ".join(f"{plain(grader)} {points(value)} points" for grader, value in pair.differences.items())
        st.caption(f"student − teacher: {said}" if said else "not scored yet")
        left, right = st.columns(2)
        teacher, student = difference.words(pair.teacher, pair.student)
        left.caption("Teacher")
        left.markdown(teacher)
        right.caption("Student")
        right.markdown(student)


def _facts(row: ExchangeRow) -> None:
    estimated = ", estimated" if row.tokens_estimated else ""
    facts = {
        "Model asked for": row.model,
        "Model that answered": row.served_model,
        "Upstream": row.upstream,
        "First content": milliseconds(row.first_ms),
        "Whole answer": milliseconds(row.duration_ms),
        "Streamed": "yes" if row.stream else "no",
        "Finish reason": row.finish_reason or NONE,
        "Tokens in": f"{count(row.input_tokens)}{estimated}",
        "Tokens out": f"{count(row.output_tokens)}{estimated}",
        "Cost": money(row.cost_usd),
        "Session": row.session or NONE,
        "User": row.user or NONE,
        "Label": row.label or NONE,
        "Redactions": count(row.redactions),
        "Kept with probability": f"{row.probability:.3g}",
    }
    for name, value in row.metadata.items():
        facts[f"metadata.{name}"] = str(value)
    st.markdown("## Facts")
    table = {"Fact": list(facts), "Value": list(facts.values())}
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        column_config={
            "Fact": st.column_config.TextColumn(width=140),
            "Value": st.column_config.TextColumn(width=240),
        },
        alt="Facts of this exchange",
    )


def _scores(found: StoredExchange) -> None:
    st.markdown("## Scores")
    if not found.scores:
        st.caption("None yet: a grader needs something to compare with, such as a truth.")
        return
    st.dataframe(
        {"Grader": [one.grader for one in found.scores], "Score": [score(one.value) for one in found.scores]},
        hide_index=True,
        alt="Scores of this exchange",
    )


def _said(found: StoredExchange) -> None:
    zone = page.zone()
    if found.feedback:
        st.markdown("## Feedback")
        for said in found.feedback:
            st.caption(f"{said.kind} {plain(said.name)} · {when(said.created_at, zone)}")
            st.json(said.value) if isinstance(said.value, dict | list) else st.text(str(said.value))
    if found.reviews:
        st.markdown("## Reviews")
        for one in found.reviews:
            colour: Any = VERDICTS.get(one.verdict, "gray")
            st.badge(one.verdict, color=colour)
            st.caption(f"{plain(one.reviewer)} · {when(one.reviewed_at, zone)}")
            if one.output:
                conversation.text(one.output)


def _lineage(row: ExchangeRow, pairs: list[reads.PairTexts]) -> None:
    st.markdown("## Lineage")
    into = page.ask(reads.datasets_with, row.id)
    if not into and not row.student and not row.rollout and not pairs:
        st.caption("In no dataset, and part of no rollout.")
    for one in into:
        query = {"dataset": one.id}
        label = f"{plain(one.task)}@{one.version}, {one.split} split"
        st.page_link("views/datasets.py", label=label, icon=":material/dataset:", query_params=query)
    if row.student:
        query = {"student": row.student}
        label = f"student {plain(short(row.student))}"
        st.page_link("views/students.py", label=label, icon=":material/school:", query_params=query)
    roles = {pair.rollout: "as evidence" for pair in pairs}
    if row.rollout:
        roles[row.rollout] = f"assigned to {row.assignment or 'nobody'}"
    for rollout, role in roles.items():
        label, query = f"rollout {plain(short(rollout))}, {role}", {"rollout": rollout}
        st.page_link("views/rollouts.py", label=label, icon=":material/stairs:", query_params=query)
    if row.fingerprint:
        query = {"version": row.fingerprint}
        label = f"prompt version {plain(short(row.fingerprint))}: its traffic"
        st.page_link("views/traffic.py", label=label, icon=":material/tune:", query_params=query)


def _review(found: StoredExchange) -> None:
    row = found.row
    last = found.reviews[-1].verdict if found.reviews else None
    off = page.below_reviewer()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        accept = st.button("Accept", icon=":material/check:", shortcut="A", key="accept", type="primary", disabled=off)
        reject = st.button("Reject", icon=":material/close:", shortcut="X", key="reject", disabled=off)
        correct = st.button("Correct", icon=":material/edit:", shortcut="E", key="correct", disabled=off)
        skip = st.button("Next", icon=":material/skip_next:", shortcut="N", key="next")
        order: Any = st.selectbox(
            "Next is",
            list(ORDERS),
            format_func=lambda name: ORDERS[name],
            key="review-order",
            width=230,
            persist_state="session",
        )
        if last:
            st.badge(f"reviewed: {last}", color=VERDICTS.get(last, "gray"))  # type: ignore[arg-type]
    if accept or reject:
        _give("accept" if accept else "reject", row, order)
    if skip:
        _go_on(row, order)
    if correct:
        _correct(row.id, row.task or "", order, found.answer.text)


def _give(verdict: reviews.Verdict, row: ExchangeRow, order: reviews.Order, output: str | None = None) -> None:
    following = _following(row.id, row.task or "", order)
    with page.acting({"accept": "Accepted", "reject": "Rejected"}.get(verdict, "Corrected")):
        verbs.review(page.desk(), row.id, verdict, output)
        if following:
            page.turn_to("exchange", following)


def _go_on(row: ExchangeRow, order: reviews.Order) -> None:
    following = _following(row.id, row.task or "", order)
    if following is None:
        st.toast("Everything of this task is reviewed.", icon=":material/done_all:")
        return
    page.turn_to("exchange", following)
    st.rerun()


def _following(exchange_id: str, task: str, order: reviews.Order) -> str | None:
    """The next exchange to review: after this one in the queue, from its start where this one is not in it."""
    queue = page.ask(reviews.queue, task, order, QUEUE)
    if exchange_id in queue:
        at = queue.index(exchange_id)
        queue = queue[at + 1 :] + queue[:at]
    return queue[0] if queue else None


@st.dialog("Correct the answer", width="large")
def _correct(exchange_id: str, task: str, order: reviews.Order, text: str) -> None:
    st.caption("Write the answer as it should have been; a student learns from this one instead.")
    output = st.text_area("Answer", text, height=300, key="correction")
    if st.button("Save the correction", type="primary", key="save-correction", shortcut="Mod+Enter"):
        following = _following(exchange_id, task, order)
        with page.acting("Corrected"):
            verbs.review(page.desk(), exchange_id, "correct", output)
            if following:
                page.turn_to("exchange", following)
