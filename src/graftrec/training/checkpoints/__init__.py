"""Weights on disk, and how damage is known."""
