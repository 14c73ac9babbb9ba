"""From files to columns of typed values."""
