"""Paired differences over users and seeds, their intervals, and verdicts."""
