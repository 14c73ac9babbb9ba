"""Shared networks between the encoder and the heads, one file each."""
