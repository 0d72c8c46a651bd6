"""The console's pages: one file each, run by Streamlit; they read through console.reads and act through its verbs."""
