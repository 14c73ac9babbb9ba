"""Tasks: a label, a head, a loss and metrics; one file per kind."""
