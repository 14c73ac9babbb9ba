"""What this process may use of the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def memory() -> int | None:
    """Bytes of this machine's memory, or of the container's where those are less; None where nobody says."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(size, int(text)) if text.isdigit() else size


def cores() -> int:
    """How many cores this process may run on: where taskset or a job's share names some, those alone."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
