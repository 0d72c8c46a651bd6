"""Owns who is to answer: the hash of a session, the share of a rollout, and the control that no share reaches."""

from hashlib import blake2b
from typing import Literal

FULL = 0.95
"""The share called full. The sessions above it are the control: they stay with the teacher from the first stage on."""

Assignment = Literal["student", "teacher", "control"]


def position(rollout_id: str, session: str) -> float:
    """Where a session stands in [0, 1): evenly spread, and the same on every replica as long as the rollout lasts."""
    key = f"{rollout_id}\x00{session}".encode("utf-8", "surrogatepass")
    # 53 bits, as many as a float holds: with 64 the last positions would be rounded up to 1.
    return (int.from_bytes(blake2b(key, digest_size=8).digest(), "big") >> 11) * 2.0**-53


def arm_for(rollout_id: str, session: str, share: float) -> Assignment:
    """Whom an eligible request is assigned to while the student has `share` of the sessions, in [0, FULL].

    Sticky (the same session, the same arm) and monotone (a rising share takes sessions from the teacher and gives none
    back). The control is the same set of sessions at every share, and the teacher (or the incumbent) answers it.
    """
    u = position(rollout_id, session)
    if u >= FULL:
        return "control"
    return "student" if u < share else "teacher"


def session_key(
    header: str | None,
    metadata_session: str | None,
    conversation: str | None,
    user: str | None,
    safety_identifier: str | None,
    request_id: str,
) -> str:
    """The key that assignment hashes: the first of these that is given and not empty, at last the request itself.

    `header` is `x-stillhouse-session`; `metadata_session` and `conversation` are `metadata.session` and the
    conversation's id; `user` and `safety_identifier` are the body's. A key that brings more than a twentieth of a
    task's traffic is no session: whoever knows that passes nothing but the request.
    """
    return header or metadata_session or conversation or user or safety_identifier or request_id
