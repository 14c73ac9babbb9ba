"""What this process may use of the machine."""

from __future__ import annotations

import os
import sys


def cores() -> int:
    """How many cores this process may run on: where taskset or a job's share names some, those alone."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
