"""Datasets: build one, read its card, its rows and its versions, export it."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import streamlit as st

from capture import datasets
from console import charts, verbs
from console.access import Desk
from console.reads import datasets as reads
from console.reads import estimates
from console.views import better_targets, building_dataset, conversation, page
from console.views.words import NONE, count, plain, short, span, when

STATES = {"queued": "gray", "building": "blue", "ready": "green", "failed": "red"}
FORMS = {"openai-sft": "jsonl", "openai-dpo": "jsonl", "parquet": "parquet"}
MOST_LABELS = 30
ROWS = 10


def show() -> None:
    chosen = page.query("dataset")
    if chosen is not None:
        page.back("datasets", "All datasets")
        opened(page.ask(datasets.resolve, chosen))
        return
    st.title("Datasets")
    task, names = page.of_task(), page.task_names()
    if names:
        building_dataset.form(names, task)
        better_targets.misses_first(names, task)
    listed(task)


@page.live(3)
def listed(task: str | None) -> None:
    found = page.ask(datasets.list_datasets, task)
    if not found:
        text = (
            "A dataset is a frozen, versioned selection of a task's exchanges: duplicates out, low scores out, and a "
            "holdout that no student ever learns from."
        )
        page.empty("No dataset yet", text, "dataset")
        if not page.task_names():
            st.page_link("views/tasks.py", label="It needs a task first", icon=":material/label:")
        return
    for card in found:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            _badge(card)
            st.markdown(f"**{plain(card.name)}**")
            if card.state == "ready":
                train, holdout = card.rows.get("train", 0), card.rows.get("holdout", 0)
                st.markdown(f"{train:,} to train, {holdout:,} held out")
                st.caption(f"{sum(card.drops.values()):,} left out", width="content")
            elif card.state in ("queued", "building"):
                st.caption("the worker builds it", width="content")
            st.caption(when(card.created_at, page.zone()))
            st.space("stretch")
            query = {"dataset": card.id}
            st.page_link("views/datasets.py", label="Open", icon=":material/open_in_full:", query_params=query)


def _badge(card: datasets.Card) -> None:
    colour: Any = STATES.get(card.state, "gray")
    st.badge(card.state, color=colour)


def opened(dataset_id: str) -> None:
    """One dataset; while it is being built the page looks again by itself."""
    card = page.ask(datasets.load_card, dataset_id)
    st.title(f"Dataset {plain(card.name)}")
    _state(card.id)
    if card.state != "ready":
        return
    _figures(card)
    _acts(card)
    _drops(card)
    _contents(card)
    _rows(card.id)
    _versions(card)
    with st.expander("The whole card", key="card"):
        st.json(msgspec.to_builtins(card), expanded=1)


@page.live(2)
def _state(dataset_id: str) -> None:
    card = page.ask(datasets.load_card, dataset_id)
    with st.container(horizontal=True, vertical_alignment="center"):
        _badge(card)
        st.caption(f"asked for {when(card.created_at, page.zone())}", width="content")
        if card.hash:
            st.caption(f"sha256 {card.hash[:16]}…", width="content")
    if card.error:
        st.error(plain(card.error), icon=":material/error:")
    moving = card.state in ("queued", "building")
    if moving:
        st.caption("The worker builds it; this page shows it when it is ready.")
    was = st.session_state.get("dataset-moving")
    st.session_state["dataset-moving"] = dataset_id if moving else None
    if was == dataset_id and not moving:
        st.rerun(scope="app")


def _figures(card: datasets.Card) -> None:
    train = card.tokens.get("train")
    facts = {
        "To train": count(card.rows.get("train", 0)),
        "Held out": count(card.rows.get("holdout", 0)),
        "With a truth": count(sum(card.with_truth.values())),
        "Corrected": count(card.sources.get("correction", 0)),
        "Tokens to train": NONE if train is None else count(train.input + train.output),
    }
    with st.container(horizontal=True):
        for label, value in facts.items():
            st.metric(label, value, width=136)
    taken = page.ask(estimates.by_task, card)
    if taken is not None and taken.seconds is not None:
        st.caption(f"A fine-tune on it takes about {span(taken.seconds)} on this machine, and costs nothing.")
    if card.erased:
        st.caption(f"{card.erased:,} rows were erased since.")
    if card.since:
        zone = page.zone()
        st.caption(f"Exchanges from {when(card.since, zone)} to {when(card.until, zone)}.")


def _acts(card: datasets.Card) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        query = {"dataset": card.id, "task": card.task}
        label, icon = "Train a student on it", ":material/model_training:"
        st.page_link("views/students.py", label=label, icon=icon, query_params=query)
        with st.popover("Export", icon=":material/download:", key="export-popover"):
            _export(card)
        better_targets.relabelling(card)
        for identity, name in page.ask(reads.learners, card.id):
            query = {"student": identity}
            st.page_link("views/students.py", label=plain(name), icon=":material/school:", query_params=query)


def _export(card: datasets.Card) -> None:
    """The file is made first, so that a refusal is a line here and not a broken download."""
    form = st.selectbox("Form", list(FORMS), key="export-form")
    name = f"{card.task}-{card.version}.{FORMS[form]}"
    if not st.button("Make the file", icon=":material/draft:", key="export", disabled=page.below_operator()):
        return
    with page.guarded(), st.spinner("Writing the rows …", show_time=True):
        data = _exported(page.desk(), card.id, form, name)
        st.download_button(f"Download {name}", data, name, icon=":material/download:", key="export-file")


def _exported(desk: Desk, dataset_id: str, form: str, name: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="stillhouse-export-") as folder:
        file = Path(folder) / name
        verbs.export_dataset(desk, dataset_id, form, file)
        return file.read_bytes()


def _drops(card: datasets.Card) -> None:
    st.markdown("## What was left out")
    looked = card.considered.get("train", 0)
    if not card.drops:
        st.caption(f"Nothing: all {looked:,} exchanges that were looked at passed.")
        return
    title = f"Left out of {looked:,} exchanges, by reason"
    st.altair_chart(charts.bars(_named(card.drops), title, "Exchanges"), key="drops", alt=title)
    if card.holdout_drops:
        said = ", ".join(f"{number:,} {reason}" for reason, number in _named(card.holdout_drops).items())
        st.caption(f"From the holdout: {plain(said)}.")


def _named(drops: Mapping[str, int]) -> dict[str, int]:
    """Reasons in words: "low_score:category" is "low score: category"."""
    return {reason.replace("_", " ").replace(":", ": "): number for reason, number in drops.items()}


def _contents(card: datasets.Card) -> None:
    left, right = st.columns(2)
    labels = _most({name or "(none)": number for name, number in card.labels.get("train", {}).items()})
    if labels and set(labels) != {"(none)"}:
        left.altair_chart(charts.bars(labels, "Labels to train on", "Rows"), key="labels", alt="Labels")
    versions = _most({short(name) or "(none)": n for name, n in card.prompt_versions.get("train", {}).items()})
    if versions:
        chart = charts.bars(versions, "Prompt versions to train on", "Rows")
        right.altair_chart(chart, key="versions", alt="Prompt versions")


def _most(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: -pair[1])[:MOST_LABELS])


def _rows(dataset_id: str) -> None:
    st.markdown("## Rows")
    after = st.session_state.get("rows-after", {}).get(dataset_id, -1)
    found = page.ask(reads.train_rows, dataset_id, after, ROWS)
    st.caption("Of the train split; the holdout stays sealed.")
    for position, row in found.rows:
        user = next((str(one.get("content")) for one in reversed(row.request.get("messages", []))), "")
        label = f"{position} · {plain(user[:60])} → {plain(row.text[:40])}"
        with st.expander(label, key=f"row-{position}"):
            conversation.request(row.request)
            conversation.message(row.target, f"row-{position}")
            if row.source == "correction":
                st.caption("This answer was corrected by a person.")
            query = {"exchange": row.exchange_id}
            st.page_link("views/traffic.py", label="The exchange", icon=":material/forum:", query_params=query)
    with st.container(horizontal=True):
        if st.button("First rows", disabled=after < 0, key="rows-first"):
            st.session_state["rows-after"] = {}
            st.rerun()
        if st.button("More rows", disabled=found.last is None, key="rows-more"):
            st.session_state["rows-after"] = {dataset_id: found.last}
            st.rerun()


def _versions(card: datasets.Card) -> None:
    others = [one for one in page.ask(datasets.list_datasets, card.task) if one.id != card.id and one.state == "ready"]
    if not others:
        return
    st.markdown("## Against another version")
    names = {one.id: one for one in others}
    chosen = st.selectbox(
        "Version",
        list(names),
        index=None,
        format_func=lambda one: names[one].name,
        key="diff-with",
        placeholder="one to compare with",
        width=320,
    )
    if chosen is not None:
        _counts(card, names[chosen])
        _changes(page.ask(datasets.diff, chosen, card.id))


def _changes(found: datasets.Diff) -> None:
    kinds = {"Came": found.added, "Went": found.removed, "Changed": found.changed, "In another split": found.moved}
    st.markdown(
        f"From {plain(found.old)} to {plain(found.new)}: **{found.same:,}** rows are the same, "
        + ", ".join(f"**{change.rows:,}** {name.lower()}" for name, change in kinds.items())
        + "."
    )
    for name, change in kinds.items():
        if change.exchanges:
            with st.expander(f"{name}: {change.rows:,}", key=f"diff-{name}"):
                for exchange in change.exchanges:
                    query = {"exchange": exchange}
                    st.page_link("views/traffic.py", label=exchange, icon=":material/forum:", query_params=query)
                if change.rows > len(change.exchanges):
                    st.caption(f"… and {change.rows - len(change.exchanges):,} more")
    if found.labels or found.filters:
        with st.expander("Labels and filters that differ", key="diff-labels"):
            st.json({"labels": found.labels, "filters": found.filters}, expanded=2)


def _counts(card: datasets.Card, other: datasets.Card) -> None:
    figures = {"Rows to train": "train", "Rows held out": "holdout"}
    reasons = sorted({*card.drops, *other.drops})
    st.dataframe(
        {
            "Figure": [*figures, *(f"left out: {reason.replace('_', ' ')}" for reason in reasons)],
            other.name: [*(other.rows.get(s, 0) for s in figures.values()), *(other.drops.get(r, 0) for r in reasons)],
            card.name: [*(card.rows.get(s, 0) for s in figures.values()), *(card.drops.get(r, 0) for r in reasons)],
        },
        hide_index=True,
        height="content",
        alt=f"{other.name} and {card.name} side by side",
    )


if __name__ == "__main__":
    show()
