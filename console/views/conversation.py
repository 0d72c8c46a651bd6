"""A captured request or answer as a conversation: shown as text and JSON alone, whatever stands in it."""

import json
from collections.abc import Mapping
from typing import Any

import streamlit as st

from console.views.words import plain

AVATARS = {
    "system": ":material/tune:",
    "developer": ":material/tune:",
    "user": ":material/person:",
    "assistant": ":material/smart_toy:",
    "tool": ":material/build:",
}
SHOWN_CHARACTERS = 20_000
"""Of one message; the rest is in the raw request."""

Json = Any


def request(body: Mapping[str, Json]) -> None:
    """Every message of a Chat or Responses request, in order."""
    found = messages_of(body)
    if not found:
        st.caption("No message in it.")
    for number, one in enumerate(found):
        message(one, f"request-{number}")
    tools = body.get("tools")
    if isinstance(tools, list) and tools:
        with st.expander(f"{len(tools)} tools offered", key="tools-offered"):
            st.json(tools, expanded=1)


def messages_of(body: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    """A request's messages: Chat's `messages`, or Responses' `instructions` and `input`."""
    found: list[Json] = []
    if isinstance(body.get("messages"), list):
        found = body["messages"]
    else:
        if body.get("instructions"):
            found.append({"role": "system", "content": body["instructions"]})
        asked = body.get("input")
        found += asked if isinstance(asked, list) else [{"role": "user", "content": asked}] if asked else []
    return [one if isinstance(one, dict) else {"role": "?", "content": one} for one in found]


def message(one: Mapping[str, Json], key: str) -> None:
    """One message with its role, text, parts and tool calls."""
    role = str(one.get("role") or one.get("type") or "?")
    with st.chat_message(role if role in AVATARS else "other", avatar=AVATARS.get(role, ":material/help:")):
        st.caption(plain(role))
        content(one.get("content"), key)
        if one.get("refusal"):
            st.caption("Refusal")
            text(str(one["refusal"]))
        for call in one.get("tool_calls") or ():
            st.json(call, expanded=2)
        if "content" not in one and "tool_calls" not in one:
            st.json(dict(one), expanded=1)


def content(value: Json, key: str) -> None:
    """A message's content: a text, or a list of parts."""
    if isinstance(value, str):
        text(value)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _part(part, f"{key}-{number}")
    elif value is not None:
        st.json(value)


def text(value: str) -> None:
    """Captured text, letter for letter; JSON objects and lists as trees."""
    tree = _tree(value)
    if tree is not None:
        st.json(tree, expanded=2)
        return
    st.text(value[:SHOWN_CHARACTERS])
    if len(value) > SHOWN_CHARACTERS:
        st.caption(f"… {len(value) - SHOWN_CHARACTERS:,} characters more; the raw request has them all.")


def _tree(value: str) -> Json:
    stripped = value.strip()
    if not stripped.startswith(("{", "[")):
        return None
    try:
        found = json.loads(stripped)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _part(part: Json, key: str) -> None:
    if not isinstance(part, dict):
        st.json(part)
        return
    if isinstance(part.get("text"), str):
        text(part["text"])
        return
    image = part.get("image_url")
    address = image.get("url") if isinstance(image, dict) else image
    if isinstance(address, str):
        _image(address, key)
        return
    st.json(part, expanded=1)


def _image(address: str, key: str) -> None:
    """Loaded on a click alone: fetching it tells a stranger's server who is looking."""
    remote = not address.startswith("data:image/")
    st.caption(f"An image {'at' if remote else 'inside the request,'} {plain(address[:120])}")
    if st.button("Load the image", icon=":material/image:", key=f"image-{key}"):
        if remote and not address.startswith(("https://", "http://")):
            st.error("Only http and https images can be shown.", icon=":material/error:")
            return
        st.image(address)
