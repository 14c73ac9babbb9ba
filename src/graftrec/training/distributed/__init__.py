"""Several processes that train one job together."""
