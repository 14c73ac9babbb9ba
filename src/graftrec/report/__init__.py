"""What a user sees of a run: screens, plots, the report page and the logs."""
