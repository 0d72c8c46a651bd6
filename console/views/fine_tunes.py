"""Fine-tunes, as the page Students shows them: start one, follow it, cancel it."""

from typing import Any

import streamlit as st

from capture import datasets
from console import charts, verbs
from console.reads import estimates
from console.reads import fine_tunes as reads
from console.views import page
from console.views.words import NONE, count, moment, money, plain, span, when
from students import bases, rival
from students.jobs import LOCAL

STATES = {"queued": "gray", "running": "blue", "succeeded": "green", "failed": "red", "cancelled": "orange"}


def starting(task: str | None) -> None:
    """The form that starts a fine-tune from a ready dataset."""
    wanted, icon = page.query("dataset"), ":material/add:"
    box = st.expander("Start a fine-tune", expanded=wanted is not None, icon=icon, key="fine-tune", on_change="rerun")
    if not box.open:
        return
    with box:
        ready = [card for card in page.ask(datasets.list_datasets, task) if card.state == "ready"]
        if not ready:
            st.markdown("A fine-tune needs a ready dataset.")
            st.page_link("views/datasets.py", label="Build one", icon=":material/dataset:")
            return
        ids = [card.id for card in ready]
        labels = {card.id: f"{card.task}@{card.version}" for card in ready}
        at = ids.index(wanted) if wanted in ids else 0
        dataset = st.selectbox("Dataset", ids, index=at, format_func=lambda one: labels[one], key="train-dataset")
        _form(next(card.task for card in ready if card.id == dataset), dataset)


def _form(task: str, dataset: str) -> None:
    training = page.desk().task(task).training
    trainers = [LOCAL, *estimates.trainers(page.settings())]
    at = LOCAL
    if len(trainers) > 1:
        at = st.selectbox("Where", trainers, format_func=_place, key="train-at", width=320)
    left, middle, right = st.columns(3)
    if at == LOCAL:
        names = sorted({*bases.BASES, training.base})
        base = left.selectbox("Base model", names, index=names.index(training.base), key="train-base")
    else:
        base = left.text_input("Base model", placeholder="as that upstream names it", key="train-hosted-base").strip()
    epochs = middle.number_input("Epochs", 0.0, value=float(training.epochs), step=0.5, key="train-epochs")
    rate = right.number_input("Learning rate", 0.0, value=training.learning_rate, format="%.6f", key="train-rate")
    methods = ("lora", "full")
    method = left.selectbox("Method", methods, index=methods.index(training.method), key="train-method")
    rank = middle.number_input("LoRA rank", 1, value=training.rank, key="train-rank")
    seed = right.number_input("Seed", value=training.seed, key="train-seed")
    _estimated(dataset, base, epochs, at)
    _rival(task)
    label, icon, off = "Start training", ":material/model_training:", page.below_operator() or not base
    if st.button(label, type="primary", icon=icon, key="train", disabled=off):
        changes = {"epochs": epochs, "learning_rate": rate, "method": method, "rank": rank, "seed": seed}
        with page.acting("The fine-tune is queued; the worker takes it from here"):
            verbs.train(page.desk(), dataset, base, changes, None if at == LOCAL else at)


def _rival(task: str) -> None:
    """Whether anything has to be trained at all, where that is known."""
    said = page.ask(rival.last_word, task)
    if said is not None:
        st.info(plain(said), icon=":material/chat:")


def _place(trainer: str) -> str:
    return "this machine" if trainer == LOCAL else f"upstream {trainer}"


def _estimated(dataset: str, base: str, epochs: float, at: str) -> None:
    """What it would take, told anew at every change."""
    card = page.ask(datasets.load_card, dataset)
    rows = card.rows.get("train", 0)
    if at != LOCAL:
        found = estimates.hosted(card, epochs, base, page.settings())
        cost = "at a price that is not known" if found.cost_usd is None else f"about {money(found.cost_usd)}"
        st.info(f"{rows:,} rows, {_tokens(found)}: {cost}, at {at}.", icon=":material/payments:")
        return
    found = estimates.estimate(card, epochs, page.ask(estimates.pace, base))
    speed = "by the pace of the last one" if found.measured else "on two cores; nothing was measured here yet"
    took = "an unknown time" if found.seconds is None else f"about {span(found.seconds)} ({speed})"
    st.info(
        f"{rows:,} rows, {_tokens(found)}: {took}. It runs on this machine and costs nothing.", icon=":material/timer:"
    )


def _tokens(found: estimates.Estimate) -> str:
    return "an unknown number of tokens" if found.tokens is None else f"about {found.tokens:,} tokens"


@page.live(5)
def listed(task: str | None) -> None:
    found = page.ask(reads.list_fine_tunes, task)
    if not found:
        return
    st.header("Fine-tunes", anchor=False)
    for job in found:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            _badge(job)
            st.markdown(f"**{plain(job.task)}** from {plain(job.base)}")
            if job.state == "running" and job.progress.get("total_steps"):
                st.markdown(f"step {job.progress.get('step', 0):,} of {job.progress['total_steps']:,}")
            st.caption(when(job.created_at, page.zone()))
            st.space("stretch")
            query = {"fine_tune": job.id}
            st.page_link("views/students.py", label="Open", icon=":material/open_in_full:", query_params=query)


def _badge(job: reads.FineTune) -> None:
    colour: Any = STATES.get(job.state, "gray")
    word = "being cancelled" if job.cancel_asked and job.moving else job.state
    st.badge(word, color=colour)


def opened(fine_tune_id: str) -> None:
    """One fine-tune: how far it is, its loss, what it said."""
    job = page.ask(reads.load_fine_tune, fine_tune_id)
    st.title(f"Fine-tune of {plain(job.task)}")
    _progress(job.id)
    if job.moving and not job.cancel_asked and not page.below_operator():
        with st.popover("Cancel", icon=":material/cancel:", key="cancel-fine-tune"):
            _confirm(job.id)


def _confirm(fine_tune_id: str) -> None:
    st.markdown("What it has learnt so far is thrown away.")
    if st.button("Yes, cancel it", type="primary", key="yes-cancel"):
        with page.acting("It was asked to stop"):
            verbs.cancel_fine_tune(page.desk(), fine_tune_id)


@page.live(2)
def _progress(fine_tune_id: str) -> None:
    job = page.ask(reads.load_fine_tune, fine_tune_id)
    events = page.ask(reads.events_of, fine_tune_id)
    _head(job)
    _facts(job)
    points = reads.losses(events)
    if len(points) > 1:
        st.altair_chart(charts.loss(points), key="loss", alt="Training loss by step")
    elif job.moving:
        st.caption("The loss appears with the first steps.")
    _events([event for event in events if event.data.get("loss") is None])
    with st.expander("Settings", key="fine-tune-settings"):
        st.json({"id": job.id, "dataset": job.dataset_id, "base": job.base, "trainer": job.trainer, **job.settings})


def _head(job: reads.FineTune) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        _badge(job)
        if job.student_id:
            query = {"student": job.student_id}
            st.page_link("views/students.py", label="Its student", icon=":material/school:", query_params=query)
        if job.dataset_id:
            query = {"dataset": job.dataset_id}
            st.page_link("views/datasets.py", label="Its dataset", icon=":material/dataset:", query_params=query)
        st.caption(f"of {plain(job.base)}, {_where(job.trainer)}, asked for {when(job.created_at, page.zone())}")
    if job.error:
        st.error(plain(job.error), icon=":material/error:")
    step, total = job.progress.get("step"), job.progress.get("total_steps")
    if job.moving and step is not None and total:
        left = job.progress.get("seconds_left")
        ahead = f", about {span(left)} left" if left is not None else ""
        st.progress(min(1.0, step / total), text=f"step {step:,} of {total:,}{ahead}")


def _where(trainer: str) -> str:
    return "on this machine" if trainer == LOCAL else f"by {plain(trainer)}"


def _facts(job: reads.FineTune) -> None:
    speed, loss = job.progress.get("tokens_per_s"), job.progress.get("loss")
    took = (job.ended_at or page.now()) - job.started_at if job.started_at else None
    facts = {
        "Loss now" if job.moving else "Last loss": NONE if loss is None else f"{loss:.3f}",
        "Tokens a second": NONE if speed is None else f"{speed:,.0f}",
        "Tokens trained": count(job.trained_tokens),
        "Taken so far" if job.moving else "Took": span(took),
        "Cost": money(0.0 if job.trainer == LOCAL else job.cost_usd),
    }
    with st.container(horizontal=True):
        for label, value in facts.items():
            st.metric(label, value, width=150)


def _events(events: list[reads.Event]) -> None:
    st.markdown("## Events")
    if not events:
        st.caption("None yet: the worker has not picked it up.")
        return
    zone = page.zone()
    st.dataframe(
        {
            "At": [moment(event.at, zone) for event in events[::-1]],
            "Level": [event.level for event in events[::-1]],
            "Message": [event.message for event in events[::-1]],
        },
        hide_index=True,
        column_config={
            "At": st.column_config.DatetimeColumn(format="D MMM HH:mm:ss", width=130),
            "Level": st.column_config.TextColumn(width=60),
            "Message": st.column_config.TextColumn(width=560),
        },
        alt="Events of this fine-tune",
    )
