"""Just enough of PromQL to tell which metrics and labels an expression names."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "docker/prometheus/alerts.yml"
DASHBOARDS = sorted((ROOT / "docker/grafana/dashboards").glob("*.json"))

_WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "offset", "bool"}
_MATCHERS = re.compile(r"\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")


def metrics_of(expression: str) -> set[str]:
    """Return the metrics and recorded series that an expression names."""
    bare = _GROUPING.sub(" ", _RANGE.sub(" ", _MATCHERS.sub(" ", expression)))
    found = re.findall(r"[a-zA-Z_:][\w:]*\s*\(?", bare)
    return {each.strip() for each in found if not each.endswith("(")} - _WORDS


def labels_of(expression: str) -> set[str]:
    """Return the labels that an expression matches or groups by."""
    matched = {
        label for inside in _MATCHERS.findall(expression) for label in _MATCHER.findall(inside)
    }
    grouped = {
        label.strip() for inside in _GROUPING.findall(expression) for label in inside.split(",")
    }
    return matched | grouped - {""}


def rules() -> Iterator[Any]:
    """Yield the shipped rules, recordings and alerts."""
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Yield where each query of the dashboards is, and the query."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']} {target['refId']}", target["expr"]
