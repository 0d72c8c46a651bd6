"""Upstreams, as the page Operations shows them: how they fare, and which the gateway leaves alone for failing."""

import streamlit as st

from console.reads import upstreams as reads
from console.views import page
from console.views.words import NONE, milliseconds, percent, when


@page.live(5)
def shown() -> None:
    st.header("Upstreams", anchor=False)
    settings = page.settings()
    if not settings.upstreams:
        page.empty("No upstream yet", "Name one under `[upstreams]` in `stillhouse.toml`.", "dns")
        return
    fares = page.ask(reads.health, page.now())
    circuits = reads.circuits(settings)
    zone = page.zone()
    names = list(settings.upstreams)
    found = [fares.get(name) for name in names]
    st.dataframe(
        {
            "Upstream": names,
            "Circuit": [_circuit(name, circuits) for name in names],
            "Requests, last hour": [one.requests if one else 0 for one in found],
            "Failed": [percent(one.failed / one.requests) if one else NONE for one in found],
            "Mean first content": [milliseconds(one.first_ms) if one else NONE for one in found],
            "Last answer": [when(one.last_at, zone) if one else NONE for one in found],
            "Fallbacks": [", ".join(f.upstream for f in settings.upstreams[name].fallbacks) or NONE for name in names],
            "Training": ["allowed" if settings.upstreams[name].training_allowed else "not allowed" for name in names],
        },
        hide_index=True,
        alt="Upstreams and how they fare",
    )
    st.caption(
        f"Of the newest {reads.RECENT:,} exchanges. One that failed before another answered in its place is not "
        "counted here: the exchange is the other's."
    )
    if circuits is None:
        port = settings.gateway.metrics_port
        st.caption(f"Circuits are unknown: no gateway answers on this machine's metrics port {port}.")
    for name in sorted(set(circuits or ()) - set(names)):
        if (circuits or {})[name] != "closed":
            st.warning(f"The circuit of {name} is {(circuits or {})[name]}.", icon=":material/power_off:")


def _circuit(name: str, circuits: dict[str, str] | None) -> str:
    return NONE if circuits is None else circuits.get(name, "closed")
