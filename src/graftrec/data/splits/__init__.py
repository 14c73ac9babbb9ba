"""Which rows train, validate and test; one file each."""
