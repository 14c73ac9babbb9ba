"""Losses per label, before mask and mean; one file each."""
