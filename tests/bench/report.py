"""The figures as a table, for the terminal and for docs/performance.md."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from app.clock import now
from tests.bench.cases import Case
from tests.bench.measure import Round, Sample

_PAGE = Path("docs/performance.md")


def table(cases: Sequence[Case], rounds: Mapping[str, list[Round]]) -> str:
    """Return the medians of every case, beside the bare stack of the same rounds."""
    lines = [
        "| request | requests/s | server CPU µs | p50 ms | p99 ms | its floor µs"
        " | floor / ours | first landing |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        ours = [each.ours for each in rounds[case.name]]
        floors = [each.floor for each in rounds[case.name] if each.floor]
        cells = [
            case.name,
            f"{_median(ours, 'per_second'):,.0f}",
            f"{_median(ours, 'cpu_us'):,.0f}",
            f"{_median(ours, 'p50_ms'):.1f}",
            f"{_median(ours, 'p99_ms'):.1f}",
        ]
        if floors:
            floor = _median(floors, "cpu_us")
            cells += [f"{floor:,.0f}", f"{floor / _median(ours, 'cpu_us'):.2f}"]
        else:
            cells += ["–", "–"]
        lines.append("| " + " | ".join([*cells, case.goal or "–"]) + " |")
    return "\n".join(lines)


def machine(load: float, servers: Sequence[str]) -> str:
    """Return one line that says where this was measured, and what else the machine was doing."""
    names = ("fastapi", "uvicorn", "gunicorn", "sqlalchemy", "asyncpg", "pydantic")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    size = f"{os.cpu_count()} CPUs ({_processor()}), {_memory_gb():.0f} GB"
    return (
        f"{now().date().isoformat()}, {size}, "
        f"load {load:.1f} before the start, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, {versions}, {', '.join(servers)}."
    )


def write(text: str, part: str = "bench") -> None:
    """Put the figures into the page, between the two marks of a part."""
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    page = _PAGE.read_text(encoding="utf-8")
    before, after = page.split(begin)[0], page.split(end)[1]
    _PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _median(samples: Sequence[Sample], name: str) -> float:
    return float(median(getattr(sample, name) for sample in samples))


def _memory_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
