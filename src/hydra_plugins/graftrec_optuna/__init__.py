"""``hydra/sweeper=optuna``: Optuna proposes what the next jobs of a sweep are. Hydra finds plugins only here."""
