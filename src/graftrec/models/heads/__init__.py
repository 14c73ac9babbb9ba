"""A task's own network, one file each."""
