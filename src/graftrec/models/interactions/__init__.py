"""What fields say together, before the trunk; one file each."""
