"""What can I type? The verbs of the command line."""
