"""Rows of one domain and kind, from contiguous columns to batches; one file each."""
