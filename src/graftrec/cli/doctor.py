"""``graftrec doctor``: what this machine has, and what is known to be wrong with it."""

from __future__ import annotations

import netrc
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version

from graftrec.utils.machine import cores, memory
from graftrec.utils.terminal_text import plain, say

PACKAGES = (
    "torch", "pytorch-lightning", "hydra-core", "omegaconf", "torchmetrics", "wandb", "polars", "pyarrow", "torchjd",
)  # fmt: skip
# What is known of versions: package -> the first that is right, and why those before it are not.
FLOORS = {
    "torch": ("2.10", "can be made to run code by a weights file (CVE-2026-24747)"),
    "pytorch-lightning": ("2.6.6", "builds what a checkpoint's metadata names (CVE-2026-58659)"),
    "hydra-core": ("1.3.8", "builds more than a configuration should name (GHSA-2cp2-2r3c-7p7r, GHSA-37p2-j732-x8pj)"),
    "wandb": ("0.28.2", "waits without end for a server that is not there"),
    "pyarrow": ("23.0.1", "has readers with memory holes (CVE-2023-47248, CVE-2026-25087)"),
}
STOLEN = ("2.6.2", "2.6.3")  # releases of Lightning that ran code on import and sent tokens away (30 April 2026)


def main() -> int:
    """Print the report; 0 if nothing is wrong, else 1."""
    found = {name: _version(name) for name in (*PACKAGES, "lightning")}
    say(f"python             {platform.python_version()} ({sys.executable})")
    for name in PACKAGES:
        say(f"{name:18} {found[name] or 'missing'}")
    say(f"cores              {cores()}")
    say(f"memory             {_memory()}")
    say(f"gpu                {_gpu()}")
    say(f"weights & biases   {_wandb()}")
    wrong = problems(found)
    for problem in wrong:
        say(f"wrong: {problem}")
    say("nothing is wrong" if not wrong else f"{len(wrong)} problem(s)")
    return 1 if wrong else 0


def problems(found: dict[str, str | None]) -> list[str]:
    """What is missing, and versions that are known to be bad."""
    wrong = [f"{name} is missing: pip install {name}" for name in PACKAGES if found.get(name) is None]
    for name in ("lightning", "pytorch-lightning"):
        if found.get(name) in STOLEN:
            wrong.append(
                f"{name} {found[name]} is a known bad release that steals tokens: change your keys, and "
                "pip install 'pytorch-lightning>=2.6.6,<2.7'"
            )
    for name, (floor, why) in FLOORS.items():
        here = found.get(name)
        if here and here not in STOLEN and _numbers(here) < _numbers(floor):
            wrong.append(f"{name} {here} {why}: pip install '{name}>={floor}'")
    return wrong


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _memory() -> str:
    size = memory()
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"


def _gpu() -> str:
    try:
        import torch
    except (ImportError, OSError) as error:
        return f"unknown, torch cannot be imported: {error}"
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return ", ".join(names) if names else "none that torch sees"


def _wandb() -> str:
    """Whether a run would reach the server; the key itself is never shown."""
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return f"WANDB_MODE={plain(mode)}"
    if os.environ.get("WANDB_API_KEY"):
        return "a key is set in WANDB_API_KEY"
    try:
        known = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        known = {}
    if any("wandb" in host for host in known):
        return "a key is set in .netrc"
    return "no key: runs stay on this machine (wandb login, or logger=wandb with WANDB_API_KEY)"
