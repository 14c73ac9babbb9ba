"""``hydra/launcher=joblib`` as `graftrec.sweep` sets it: a killed process costs its job and not the sweep."""
