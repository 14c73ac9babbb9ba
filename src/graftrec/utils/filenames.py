"""Names that become names of files and folders on any system."""

from __future__ import annotations

LONGEST = 100
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


def wrong_name(name: str) -> str:
    """What keeps a name from being that of one file in one folder; empty where nothing does."""
    if not name or len(name) > LONGEST:
        return f"should have 1 to {LONGEST} letters"
    if set(name) & set('/\\:*?"<>|') or not name.isprintable():
        return "should have no separators, wildcards, quotes or control characters"
    if name[0] in ". -" or name[-1] in ". ":
        return "should not begin with a dot, a space or a dash, nor end with a dot or a space"
    if name.partition(".")[0].strip().lower() in RESERVED:
        return "is a name that Windows keeps for a device"
    return ""
