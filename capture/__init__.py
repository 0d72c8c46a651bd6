"""What happened: exchanges, spool, store, redaction, sampling, graders and datasets. Knows no web framework."""
