"""What the alerts and dashboards ask for exists, and each alert can be acted upon."""

import json
import re
from typing import Any

import pytest
import yaml

from app.observability.metrics import Metrics
from tests.deploy.promql import DASHBOARDS, ROOT, dashboard_queries, labels_of, metrics_of, rules

PROMETHEUS_OWN = {"up": {"job", "instance"}}
TARGET_LABELS = {"job", "instance", "le"}
ALERTS = [each for each in rules() if "alert" in each]
RECORDED = {each["record"] for each in rules() if "record" in each}
QUERIES = [*((each.get("alert") or each["record"], each["expr"]) for each in rules())]
QUERIES += dashboard_queries()


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """The names that the service exposes, and the labels of each."""
    registry: Any = Metrics("test")._registry
    return PROMETHEUS_OWN | {
        name: set(collector._labelnames)
        for name, collector in registry._names_to_collectors.items()
    }


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_a_query_names_what_is_exposed(
    where: str, query: str, exposed: dict[str, set[str]]
) -> None:
    metrics = metrics_of(query)
    assert metrics, where
    assert metrics <= exposed.keys() | RECORDED
    known = set().union(*(exposed[each] for each in metrics if each in exposed))
    assert labels_of(query) <= known | TARGET_LABELS


def test_a_name_that_is_not_exposed_is_seen(exposed: dict[str, set[str]]) -> None:
    query = 'sum by (handler, no_label) (rate(no_metric{also_none="x"}[5m])) / up'
    assert metrics_of(query) - exposed.keys() == {"no_metric"}
    assert labels_of(query) == {"handler", "no_label", "also_none"}


@pytest.mark.parametrize("alert", ALERTS, ids=[each["alert"] for each in ALERTS])
def test_an_alert_says_what_to_do(alert: Any) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["summary"]
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    text = (ROOT / page).read_text(encoding="utf-8")
    headings = {each.lower() for each in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    assert anchor == alert["alert"].lower()
    assert anchor in headings
    tests = yaml.safe_load((ROOT / "docker/prometheus/alerts_test.yml").read_text(encoding="utf-8"))
    tried = [
        bool(case["exp_alerts"])
        for test in tests["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == alert["alert"]
    ]
    assert True in tried
    assert False in tried


def test_both_orchestrators_alert_alike() -> None:
    rule = yaml.safe_load(
        (ROOT / "k8s/components/monitoring/prometheusrule.yaml").read_text(encoding="utf-8")
    )
    shipped = yaml.safe_load((ROOT / "docker/prometheus/alerts.yml").read_text(encoding="utf-8"))
    assert rule["spec"]["groups"] == shipped["groups"]


def test_objectives_are_judged_by_a_bucket_that_exists() -> None:
    text = (ROOT / "docker/prometheus/alerts.yml").read_text(encoding="utf-8")
    from app.observability.metrics import BUCKETS

    assert {float(each) for each in re.findall(r'le="([\d.]+)"', text)} <= set(BUCKETS)


@pytest.mark.parametrize("path", DASHBOARDS, ids=[path.stem for path in DASHBOARDS])
def test_a_dashboard_finds_its_data_source(path: Any) -> None:
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    sources = yaml.safe_load(
        (ROOT / "docker/grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {sources[0]["uid"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
