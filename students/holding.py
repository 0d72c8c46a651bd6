"""Owns what keeps a rollout where it is beside its evidence: a person's pause, pairs that are off, a silent judge."""

from dataclasses import dataclass, replace

from students.policy import SHADOW
from students.rollouts import NEEDS_PERSON, Rollout
from students.sentences import stage_name
from students.verdicts import Verdict

WANTING = ("no_evidence", "grader_missing", "minimum_not_met", "undecided", "full")
"""Reasons for a hold that more pairs, or whoever says nothing of them, would mend; or where they keep watch."""


@dataclass(frozen=True)
class Silence:
    """What a worker knows of one rollout that the store does not; each is a part of a sentence, None for nothing."""

    pairs_off: str | None = None
    """Why no pairs are coming in."""
    unheard: str | None = None
    """Why one of those that it decides by cannot speak."""


def moves(rollout: Rollout, silence: Silence) -> bool:
    """Whether a proof takes effect: nobody has paused it, it is no dry run, and everybody can be heard."""
    return rollout.state in ("running", "full") and not rollout.dry_run and silence.unheard is None


def held_back(verdict: Verdict, rollout: Rollout, silence: Silence) -> Verdict:
    """The verdict as it is carried out: it advances only while the rollout runs and everybody can be heard.

    A hold that would be mended if pairs came, or if somebody were heard, says so; at full, that the watch is blind.
    """
    if verdict.kind == "advance":
        return _kept_back(verdict, rollout, silence)
    wanting = verdict.reason in (*WANTING, NEEDS_PERSON)
    if silence.pairs_off is not None and wanting:
        return _with_word(verdict, "pairs_off", f"No pairs are coming in: {silence.pairs_off}.")
    if silence.unheard is not None and wanting:
        return _with_word(verdict, "unheard", f"{silence.unheard[0].upper()}{silence.unheard[1:]}.")
    return verdict


def _with_word(verdict: Verdict, reason: str, word: str) -> Verdict:
    kept = verdict.reason if verdict.reason == NEEDS_PERSON else reason
    return replace(verdict, reason=kept, sentence=f"{verdict.sentence} {word}")


def _kept_back(verdict: Verdict, rollout: Rollout, silence: Silence) -> Verdict:
    here = replace(verdict, kind="hold", stage=rollout.stage, share=rollout.share)
    if rollout.state != "running":
        sentence = f"It would advance, but the rollout is {rollout.state}. {verdict.sentence}"
        return replace(here, reason=rollout.state, sentence=sentence)
    if silence.unheard is not None:
        where = stage_name((SHADOW, *rollout.policy.shares)[rollout.stage])
        sentence = f"Held at {where}, whatever was proven before: {silence.unheard}."
        return replace(here, reason="unheard", sentence=sentence)
    return verdict
