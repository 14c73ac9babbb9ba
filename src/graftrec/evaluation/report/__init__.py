"""Numbers as tables, plots, sentences and pages."""
