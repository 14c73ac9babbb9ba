"""Simple models that a user would try in an hour, beside every network."""
