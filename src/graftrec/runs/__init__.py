"""What happens between a command and a finished folder."""
