"""Many jobs of one command: Hydra's multirun, what became of each, and the best."""
