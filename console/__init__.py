"""What people do: the Streamlit app and the `stillhouse` command, both on the same verbs."""
