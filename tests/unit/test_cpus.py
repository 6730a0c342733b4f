"""How many CPUs this process may really use."""

import os
from pathlib import Path

import pytest

import app.cpus
from app.cpus import usable_cpus


@pytest.mark.parametrize(
    ("limit", "usable"),
    [("max 100000", 8), ("50000 100000", 1), ("250000 100000", 2), ("9900000 100000", 8)],
)
def test_the_limit_of_a_container_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, usable: int
) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    monkeypatch.setattr(app.cpus, "_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cpus() == usable


@pytest.mark.parametrize(("quota", "usable"), [("-1", 4), ("200000", 2), ("nonsense", 4)])
def test_so_does_the_older_form(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, usable: int
) -> None:
    (tmp_path / "quota").write_text(quota)
    (tmp_path / "period").write_text("100000")
    monkeypatch.setattr(app.cpus, "_V2", tmp_path / "missing")
    monkeypatch.setattr(app.cpus, "_V1_QUOTA", tmp_path / "quota")
    monkeypatch.setattr(app.cpus, "_V1_PERIOD", tmp_path / "period")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert usable_cpus() == usable


def test_without_any_limit_it_is_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("_V2", "_V1_QUOTA", "_V1_PERIOD"):
        monkeypatch.setattr(app.cpus, name, tmp_path / "missing")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cpus() == (os.cpu_count() or 1)
