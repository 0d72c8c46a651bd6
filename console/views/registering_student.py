"""The form that makes a model at an upstream a student: a server of one's own, or a hosted fine-tune."""

import streamlit as st

from console import registering
from console.views import page
from students import registry


def form(task: str | None) -> None:
    names, upstreams = page.task_names(), list(page.settings().upstreams)
    if not names or not upstreams:
        return
    box = st.expander(
        "Register a student at an upstream", icon=":material/add_link:", key="register", on_change="rerun"
    )
    if not box.open:
        return
    with box:
        with st.container(horizontal=True):
            at = names.index(task) if task in names else 0
            chosen = st.selectbox("Task", names, index=at, key="register-task", width=200)
            upstream = st.selectbox("Upstream", upstreams, key="register-upstream", width=200)
            model = st.text_input("Model there", key="register-model", width=300).strip()
        twins = {one.id: one.name for one in page.ask(registry.list_students, chosen) if one.kind != "base"}
        like = st.selectbox(
            "The same weights as",
            list(twins),
            index=None,
            format_func=lambda one: twins[one],
            key="register-like",
            placeholder="none: shadow has to prove each prompt version",
        )
        off = page.below_operator() or not model
        if st.button("Register", type="primary", key="register-go", disabled=off):
            with page.acting(f"{model} is a student now"):
                registering.register_student(page.desk(), chosen, (upstream, model), like=like)
