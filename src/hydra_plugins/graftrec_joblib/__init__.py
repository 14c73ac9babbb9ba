"""``hydra/launcher=joblib`` as a sweep sets it: a killed process costs its job and not the sweep."""
