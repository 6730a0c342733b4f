"""The manifests: valid for three Kubernetes versions, and safe in what they ask for."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.settings import Settings

K8S = Path(__file__).resolve().parents[2] / "k8s"
VERSIONS = ("1.31", "1.34", "1.37")
MANIFESTS = [
    pytest.param(
        document, id=f"{path.parent.name}/{document['kind']}/{document['metadata']['name']}"
    )
    for path in sorted(K8S.rglob("*.yaml"))
    if path.name != "kustomization.yaml" and "components" not in path.parts  # not Kubernetes' own
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]


def pod_of(manifest: Any) -> Any:
    """Return the pod that a workload makes, or None."""
    template = manifest.get("spec", {}).get("template")
    return template["spec"] if template else None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_manifest_is_valid(manifest: Any, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_pod_runs_without_privileges_and_within_limits(manifest: Any) -> None:
    pod = pod_of(manifest)
    if pod is None:
        return
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context.get("readOnlyRootFilesystem") or container["name"] == "postgres"
        assert container["resources"]["requests"]
        assert "memory" in container["resources"]["limits"]


def test_the_timeout_ladder_reaches_the_orchestrator() -> None:
    api = next(
        each.values[0]
        for each in MANIFESTS
        if isinstance(each.values[0], dict)
        and each.values[0]["metadata"]["name"] == "kingpost-api"
        and each.values[0]["kind"] == "Deployment"
    )
    pod = pod_of(api)
    config = yaml.safe_load((K8S / "base/configmap.yaml").read_text(encoding="utf-8"))["data"]
    container = pod["containers"][0]
    pre_stop = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = float(config["DRAIN_SECONDS"])
    gunicorn = (K8S.parent / "gunicorn.conf.py").read_text(encoding="utf-8")
    graceful = float(gunicorn.partition("\ngraceful_timeout = ")[2].split()[0])
    assert pre_stop + drain + graceful < pod["terminationGracePeriodSeconds"]
    not_ready_after = (
        container["readinessProbe"]["periodSeconds"]
        * container["readinessProbe"]["failureThreshold"]
    )
    assert not_ready_after < pre_stop + drain
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["timeoutSeconds"] > 2  # the checks' own deadline


def test_every_variable_is_a_setting() -> None:
    config = yaml.safe_load((K8S / "base/configmap.yaml").read_text(encoding="utf-8"))["data"]
    known = {name.upper() for name in Settings.model_fields}
    for name in config:
        assert name.removesuffix("_FILE") in known, name


@pytest.mark.system
@pytest.mark.parametrize("overlay", ["development", "production"])
def test_an_overlay_renders_to_valid_manifests(overlay: str) -> None:
    program = shutil.which("kubectl") or shutil.which("kustomize")
    assert program, "this test needs kubectl or kustomize"
    command = [program, "kustomize"] if program.endswith("kubectl") else [program, "build"]
    done = subprocess.run(
        [*command, str(K8S / "overlays" / overlay)], capture_output=True, text=True, check=True
    )
    rendered = list(yaml.safe_load_all(done.stdout))
    assert {each["kind"] for each in rendered} >= {"Deployment", "Job", "Service", "Ingress"}
    for each in rendered:
        for version in VERSIONS:
            kubernetes_validate.validate(each, version, strict=True)
