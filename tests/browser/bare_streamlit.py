"""Streamlit as it comes, with every element that the console uses and nothing of the console's: what axe finds here is
Streamlit's own."""

import altair as alt
import streamlit as st

COLOURS = ("gray", "blue", "green", "red", "orange", "violet")


def elements() -> None:
    st.title("Title")
    st.header("Header", anchor=False)
    st.markdown("## Second\n\nText with **bold** and `code`.")
    with st.container(horizontal=True):
        for colour in COLOURS:
            st.badge(colour, color=colour)  # type: ignore[arg-type]
            st.markdown(f":{colour}-badge[{colour}] :{colour}-background[{colour}] :{colour}[:material/check:]")
    st.caption("A caption")
    st.metric("Metric", "1", help="Help")
    st.code("code", language=None)
    st.json({"a": [1]})
    st.text("text")
    with st.chat_message("user", avatar=":material/person:"):
        st.caption("user")
        st.text("text")
    with st.container(border=True, horizontal=True):
        st.page_link(PAGES[0], label="Link", icon=":material/home:")
        st.page_link(PAGES[1], label="Other", icon=":material/label:")
    for alert in (st.info, st.warning, st.error):
        alert("Alert", icon=":material/info:")
    st.progress(0.5, text="half")
    st.dataframe({"A": [1, 2]}, hide_index=True, on_select="rerun", selection_mode="single-row", alt="Table")
    frame = alt.Chart(alt.InlineData(values=[{"a": 1, "b": 2}]), title="Chart")
    st.altair_chart(frame.mark_bar().encode(x="a:Q", y="b:Q"), alt="Chart")
    widgets()


def widgets() -> None:
    left, right = st.columns(2)
    left.button("Primary", type="primary", shortcut="A")
    right.button("Secondary", icon=":material/check:")
    left.button("Off", disabled=True)
    left.selectbox("Choice", ["one", "two"])
    right.multiselect("Several", ["one", "two"], default=["one"])
    left.text_input("Words", placeholder="placeholder", help="Help")
    right.number_input("Number", 0, 9)
    left.text_area("Lines")
    right.date_input("Day", None)
    left.toggle("Toggle", help="Help")
    right.checkbox("Check")
    left.slider("Between", 0.0, 1.0, (0.0, 1.0))
    right.radio("One of", ["one", "two"], horizontal=True)
    left.download_button("Download", b"x")
    with right.popover("Popover", icon=":material/add:"):
        st.text("inside")
    with st.expander("Expander", icon=":material/add:", expanded=True), st.form("form", border=False):
        st.text_input("In a form")
        st.form_submit_button("Submit", type="primary")


PAGES = [
    st.Page(elements, title="One", icon=":material/home:", url_path="one", default=True),
    st.Page(lambda: st.title("Two"), title="Two", icon=":material/label:", url_path="two", help="Help"),
]

if __name__ == "__main__":
    st.set_page_config(page_title="Bare", layout="wide")
    st.navigation({"Bare": PAGES}).run()
