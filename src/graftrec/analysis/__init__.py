"""What a result is held against: simple baselines, and the statistics of a paired difference."""
