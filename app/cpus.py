"""How many CPUs this process may really use."""

import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")  # cgroups(7): id:controllers:path, no controllers in version 2


def usable_cpus() -> int:
    """Return the CPUs of the machine or of its control group's limit, the least; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quotas = [quota for folder in _folders() if (quota := _quota(folder))]
    except (OSError, ValueError):
        quotas = []
    return max(1, min([available, *map(int, quotas)]))


def _folders() -> Iterator[Path]:
    """Yield the process's own group and all above it: each may have a limit.

    In a container the own path may be the host's, of which only the top is to be seen.
    """
    for line in _OWN.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = _GROUPS / "cpu" if controllers else _GROUPS
        own = top / path.lstrip("/")
        yield from (own, *(above for above in own.parents if above.is_relative_to(top)))


def _quota(folder: Path) -> float | None:
    if (folder / "cpu.max").exists():
        limit, period = (folder / "cpu.max").read_text().split()
    elif (folder / "cpu.cfs_quota_us").exists():
        limit = (folder / "cpu.cfs_quota_us").read_text()
        period = (folder / "cpu.cfs_period_us").read_text()
    else:
        return None
    return int(limit) / int(period) if limit != "max" and int(limit) > 0 else None
