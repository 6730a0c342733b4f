"""How many CPUs this process may really use."""

import os
from pathlib import Path

import pytest

import app.cpus
from app.cpus import usable_cpus


@pytest.fixture(autouse=True)
def own_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of 8 CPUs, and its tree of control groups."""
    monkeypatch.setattr(app.cpus, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(app.cpus, "_OWN", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path / "groups"


def belongs_to(groups: Path, line: str) -> None:
    (groups.parent / "own").write_text(f"7:memory:/elsewhere\n{line}\n")


def limit(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(text)


def older_limit(folder: Path, quota: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(quota)
    (folder / "cpu.cfs_period_us").write_text("100000\n")


@pytest.mark.parametrize(
    ("text", "usable"),
    [("max 100000\n", 8), ("50000 100000\n", 1), ("250000 100000\n", 2), ("9900000 100000\n", 8)],
)
def test_the_limit_of_a_container_counts(own_groups: Path, text: str, usable: int) -> None:
    belongs_to(own_groups, "0::/")
    limit(own_groups, text)
    assert usable_cpus() == usable


@pytest.mark.parametrize(("quota", "usable"), [("-1\n", 8), ("200000\n", 2), ("nonsense", 8)])
def test_so_does_the_older_form(own_groups: Path, quota: str, usable: int) -> None:
    belongs_to(own_groups, "4:cpu,cpuacct:/docker/af3c")  # the host's path, not to be seen here
    older_limit(own_groups / "cpu", quota)
    assert usable_cpus() == usable


def test_the_limit_of_a_unit_of_systemd_counts_and_those_above_it(own_groups: Path) -> None:
    belongs_to(own_groups, "0::/system.slice/kingpost.service")
    limit(own_groups / "system.slice/kingpost.service", "300000 100000\n")
    assert usable_cpus() == 3
    limit(own_groups / "system.slice", "200000 100000\n")
    assert usable_cpus() == 2


def test_and_in_the_older_form(own_groups: Path) -> None:
    belongs_to(own_groups, "1:cpu:/a/b")
    older_limit(own_groups / "cpu/a/b", "400000\n")
    older_limit(own_groups / "cpu", "-1\n")
    assert usable_cpus() == 4


def test_without_any_limit_it_is_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cpus() == 8
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cpus() == (os.cpu_count() or 1)
