"""A rollout's evidence, as its page shows it: confidence sequences, guardrails by slice, drift, the policy in words."""

import streamlit as st

from console import charts
from console.reads import rollouts as reads
from console.views import page
from console.views.words import NONE, plain
from students import rollouts as room
from students.policy import Policy
from students.sentences import points, policy_words
from students.tally import Evidence


def shown(rollout: room.Rollout, policy: Policy, evidence: Evidence) -> None:
    st.header("Evidence", anchor=False)
    readings = [gate for gate in evidence.gates if gate.reading and gate.reading.count]
    waits = " ".join(page.ask(reads.waiting, rollout.id))
    if not readings:
        text = f"{waits or 'No pair has been made yet.'} Each pair is one request answered by student and teacher."
        page.empty("Nothing scored yet", text, "balance")
    elif waits:
        st.caption(waits)
    for gate in readings:
        line = page.ask(reads.trail, rollout.id, gate.grader)
        if line:
            chart = charts.confidence(line, gate.grader, policy.margin, policy.alpha)
            st.altair_chart(chart, key=f"trail-{gate.grader}", alt=f"Confidence sequence of {gate.grader}")
            _jump(line)
    for both in page.ask(reads.sides, rollout):
        st.caption(plain(both.sentence))
    _guardrails(evidence)
    _watched(policy, evidence)


def _jump(line: list[reads.Point]) -> None:
    if line[-1].pairs > reads.MOST_REPLAYED:
        st.caption(
            f"Drawn over the first {reads.MOST_REPLAYED:,} pairs; its end is where it stands now, "
            f"at {line[-1].pairs:,}."
        )


def _guardrails(evidence: Evidence) -> None:
    if not evidence.guardrails:
        return
    st.markdown("**Guardrails**: a proven harm rolls back at once, whatever the gates say.")
    rails = evidence.guardrails
    st.dataframe(
        {
            "Metric": [rail.metric for rail in rails],
            "Where": [rail.slice or "everywhere" for rail in rails],
            "Pairs": [rail.reading.count for rail in rails],
            "Difference": [points(rail.reading.mean) for rail in rails],
            "At least": [points(rail.reading.low) if rail.reading.low > -1 else NONE for rail in rails],
            "At most": [points(rail.reading.high) if rail.reading.high < 1 else NONE for rail in rails],
            "Harm beyond": [f"{rail.smallest * 100:.3g} points" for rail in rails],
            "α": [f"{rail.alpha:.2g}" for rail in rails],
            "Harm": ["proven" if rail.reading.proven else "not shown" for rail in rails],
        },
        hide_index=True,
        alt="Guardrails of this rollout",
    )


def _watched(policy: Policy, evidence: Evidence) -> None:
    """Drift, what is not tested, and what all of it is judged by."""
    for drift in evidence.drifts:
        if drift.alarmed:
            st.warning(f"{plain(drift.grader)} has drifted lately.", icon=":material/trending_down:")
    if evidence.untested:
        st.caption(f"{evidence.untested:,} pairs lie in slices that are not tested: there are too many values.")
    with st.expander("The policy in words", key="policy-words"):
        for sentence in policy_words(policy):
            st.markdown(plain(sentence))
