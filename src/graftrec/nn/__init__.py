"""Plain layers: torch only."""
