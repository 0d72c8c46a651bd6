"""The console's pages: one file each, run by Streamlit, reading through console.reads and acting through console.verbs."""
