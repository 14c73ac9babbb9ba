"""From the vector of task losses to one scalar; one file each."""
