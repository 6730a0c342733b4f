"""How many CPUs this process may really use."""

import os
from pathlib import Path

_V2 = Path("/sys/fs/cgroup/cpu.max")
_V1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_V1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def usable_cpus() -> int:
    """Return the CPUs of the machine or of the container's limit, whichever is less; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _quota()
    return max(1, min(available, int(quota)) if quota else available)


def _quota() -> float | None:
    try:
        if _V2.exists():
            limit, period = _V2.read_text().split()
            return None if limit == "max" else int(limit) / int(period)
        limit, period = _V1_QUOTA.read_text(), _V1_PERIOD.read_text()
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None
