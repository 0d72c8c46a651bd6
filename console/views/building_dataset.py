"""The form that builds a dataset: which exchanges may go into it."""

from typing import Any

import streamlit as st

from capture import datasets
from capture.datasets.preview import COUNTED
from capture.errors import StillhouseError
from capture.settings import TaskSettings
from console import charts, verbs
from console.reads import tasks as task_reads
from console.reads.tasks import PromptVersion
from console.views import narrowing, page
from console.views.words import capped, count, percent, short


def form(names: list[str], of_task: str | None) -> None:
    box = st.expander("Build a dataset", icon=":material/add:", key="build-dataset", on_change="rerun")
    if box.open:
        with box:
            _fields(names, of_task)


def _fields(names: list[str], of_task: str | None) -> None:
    at = names.index(of_task) if of_task in names else 0
    task = st.selectbox("Task", names, index=at, key="build-task")
    settings = page.desk().task(task)
    versions = page.ask(task_reads.prompt_versions, task)
    filters = _filters(list(task_reads.graders_of(settings)), versions)
    with page.guarded():
        chosen = filters()
        _previewed(task, settings, chosen)
        if st.button("Build", type="primary", icon=":material/dataset:", key="build", disabled=page.below_operator()):
            with page.acting("The build is queued; the worker takes it from here"):
                verbs.build_dataset(page.desk(), task, chosen)


def _previewed(task: str, settings: TaskSettings, filters: datasets.Filters) -> None:
    """What these filters would remove, told anew at every change."""
    found = page.ask(datasets.preview, task, settings, filters, dict(page.settings().upstreams))
    if not found.looked:
        st.caption("This task has no exchange outside its holdout yet.")
        return
    share = found.passed / found.looked
    st.markdown(
        f"**{found.passed:,} of the newest {found.looked:,}** exchanges pass ({percent(share)}), before near-duplicates"
        f" and texts like the holdout's are taken out. The task has {capped(found.total, COUNTED)} in all."
    )
    if found.drops:
        named = {reason.replace("_", " ").replace(":", ": "): number for reason, number in found.drops.items()}
        title = f"What the filters remove, of the newest {found.looked:,} exchanges"
        st.altair_chart(charts.bars(named, title, "Exchanges"), key="build-preview", alt=title)


def _filters(graders: list[str], versions: list[PromptVersion]) -> Any:
    """The fields; returns what makes Filters of them."""
    left, middle, right = st.columns(3)
    kinds = {"not_rejected": "all but the rejected", "approved": "only accepted or corrected"}
    reviews: Any = left.selectbox("Reviews", list(kinds), format_func=lambda one: kinds[one])
    rules = {"any": "does not matter", "agree": "not against a known truth", "required": "known, and met"}
    truth: Any = middle.selectbox("Truth", list(rules), format_func=lambda one: rules[one])
    most = right.number_input("Rows to train, at most (0: all)", 0, 10_000_000, 0)
    since = left.date_input("From", None, key="build-from")
    until = middle.date_input("To", None, key="build-to")
    near = right.number_input(
        "Near-duplicates from similarity", 0.0, 1.0, 0.85, 0.01, help="Of word shingles; 1: only exact."
    )
    lowest = {name: left.number_input(f"Lowest {name}", 0.0, 1.0, 0.0, 0.05, key=f"lowest-{name}") for name in graders}
    balance = middle.number_input("Most rows of a label, as a multiple of the rarest (0: any)", 0.0, 1000.0, 0.0)
    seed = right.number_input("Seed", 0, 2**31 - 1, 0)
    labels = {one.fingerprint: f"{short(one.fingerprint)} ({count(one.exchanges)} exchanges)" for one in versions}
    prompts = left.multiselect(
        "Prompt versions", list(labels), format_func=lambda one: labels[one], placeholder="all", key="build-versions"
    )
    tags = middle.text_input("Metadata", placeholder="app=triage, tier=gold", key="build-metadata")

    def made() -> datasets.Filters:
        scores = {name: value for name, value in lowest.items() if value > 0}
        if near == 0:
            raise StillhouseError("near-duplicates: the similarity must be above 0")
        return datasets.Filters(
            minimum_score=scores or None,
            reviews=reviews,
            truth=truth,
            since=page.midnight(since),
            until=page.day_end(until),
            near_duplicate=near,
            max_rows=most or None,
            balance=balance or None,
            seed=seed,
            fingerprints=tuple(prompts),
            metadata=narrowing.named(tags),
        )

    return made
