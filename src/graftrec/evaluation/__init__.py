"""Did the transfer help, and how is it told? Baselines, statistics and the report."""
