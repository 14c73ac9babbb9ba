"""Which files, and what their columns mean; one file each."""
