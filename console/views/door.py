"""The console's door: asks who is there, turns away whom the settings do not name, and says who is in."""

import streamlit as st

from capture.errors import RefusedError
from capture.settings import LoginSettings
from console import login as people
from console.access import Actor, Desk
from console.views import page
from console.views.words import plain


def person(login: LoginSettings) -> Actor:
    """Who is logged in; for anybody else the run ends here, with a way in."""
    if not st.user.get("is_logged_in"):
        st.title("Stillhouse")
        st.markdown("Log in to see this installation's traffic.")
        st.button("Log in", type="primary", icon=":material/login:", on_click=st.login, key="log-in")
        st.stop()
    try:
        return people.actor_of(st.user.to_dict(), login)
    except RefusedError as error:
        st.title("Stillhouse")
        page.say(error)
        st.button("Log out", icon=":material/logout:", on_click=st.logout, key="log-out")
        st.stop()


def badge(desk: Desk) -> None:
    """Who is at the desk, and the way out, at the foot of the navigation."""
    with st.sidebar:
        st.caption(f":material/person: {plain(desk.actor.name)} · {desk.role_name}")
        if desk.settings.console.login is not None:
            st.button("Log out", icon=":material/logout:", on_click=st.logout, key="log-out", type="tertiary")
