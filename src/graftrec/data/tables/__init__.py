"""Interactions as numbers: vocabularies, entities, domains, filters, the cache."""
