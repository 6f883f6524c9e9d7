"""What infra/kubernetes renders: would a cluster take it, how far are its pods shut in, and who reaches whom?"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_schemas import inner, pod_templates, problems
from reachable import Pod, allowed

from goku_core.services import servers

KUBERNETES = Path(__file__).resolve().parents[2] / "infra/kubernetes"
OVERLAYS = ("team", "try")
COMPONENT = "app.kubernetes.io/component"
SECRET = re.compile(r"(PASSWORD|TOKEN|AUTH_STRING|CONNECTION_URL|STORE_URI|ACCESS_KEY|API_KEY)$")
CREDENTIALS = re.compile(r"://[^/@\s]+:[^/@\s]+@")  # user:password in an address


def _renders() -> str | None:
    """Why not, or None."""
    if shutil.which("kubectl") is None:
        return "kubectl is not installed"
    tried = subprocess.run(["kubectl", "kustomize", str(KUBERNETES / "base")], capture_output=True, check=False)
    return "this kubectl is too old for kustomize's labels" if tried.returncode else None


needs_kubectl = pytest.mark.skipif(bool(why := _renders()), reason=str(why))


@cache
def rendered(folder: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / folder)], capture_output=True, text=True, check=True
    )
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def overlay(name: str) -> list[dict[str, Any]]:
    return rendered(f"overlays/{name}")


def named(manifests: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = (one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def written() -> list[dict[str, Any]]:
    """The manifests as they are written, without kustomize: what can be looked at on any machine."""
    files = [f for f in KUBERNETES.rglob("*.yaml") if f.name != "kustomization.yaml"]
    return [one for file in files for one in yaml.safe_load_all(file.read_text())]


def test_every_written_manifest_is_valid() -> None:
    found = written()
    assert len(found) > 40
    assert [problem for one in found for problem in problems(one)] == []


@needs_kubectl
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_rendered_manifest_is_valid(name: str) -> None:
    assert [problem for one in overlay(name) for problem in problems(one)] == []
    assert {one["metadata"].get("namespace", "goku") for one in overlay(name)} == {"goku"}


def test_the_check_refuses_what_a_cluster_would() -> None:
    """Against a check that takes everything: a wrong field at each of the places that it reads in another way."""
    for one in written():
        if one["kind"] in ("Deployment", "ClusterQueue", "TrainingRuntime", "LocalQueue"):
            broken = one | {"spec": one["spec"] | {"replicants": 3}}
            assert problems(broken), one["kind"]
    runtime = next(one for one in written() if one["kind"] == "TrainingRuntime")
    text = yaml.safe_dump(runtime).replace("restartPolicy: Never", "restartPolicy: 7")
    assert problems(yaml.safe_load(text))


def hardened(template: dict[str, Any]) -> list[str]:
    """What an intruder in such a pod could use."""
    spec, found = template["spec"], []
    pod = spec.get("securityContext", {})
    if not pod.get("runAsNonRoot") or not pod.get("runAsUser"):
        found.append("may run as root")
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("no seccomp profile")
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            found.append(name)
    found += ["the host's files" for volume in spec.get("volumes", []) if "hostPath" in volume]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            found.append("may gain rights")
        if own.get("readOnlyRootFilesystem") is not True:
            found.append("may change its image")
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            found.append("capabilities")
        if "memory" not in container["resources"]["limits"]:
            found.append("may take all memory")
        found += [f"literal {e['name']}" for e in container.get("env", []) if SECRET.search(e["name"]) and "value" in e]
    return found


@needs_kubectl
@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_are_shut_in(name: str) -> None:
    templates = [(one, template) for one in overlay(name) for template in pod_templates(one)]
    assert len(templates) >= 4
    for one, template in templates:
        assert hardened(template) == [], one["metadata"]["name"]
        speaks = template["spec"]["serviceAccountName"] == "goku-worker"
        assert template["spec"].get("automountServiceAccountToken", True) is speaks, one["metadata"]["name"]
        for container in template["spec"]["containers"]:
            assert re.fullmatch(r".+@sha256:[0-9a-f]{64}", container["image"]), "by digest, never by tag"


@needs_kubectl
def test_no_secret_is_in_the_folder() -> None:
    """Only names of secrets, and every one of them is in the documentation's list."""
    page = (KUBERNETES.parents[1] / "docs/kubernetes.md").read_text()
    for name in OVERLAYS:
        assert not [one for one in overlay(name) if one["kind"] == "Secret"]
        text = yaml.safe_dump_all(overlay(name))
        assert not CREDENTIALS.search(text) and CREDENTIALS.search("postgresql://goku:word@host/db")
        for secret in set(re.findall(r"secretKeyRef:\s+key: \S+\s+name: (\S+)", text)):
            assert f"generic {secret} " in page, secret


def test_the_worker_keeps_to_its_namespace_and_writes_no_password_into_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings, as the package reads them: a name that it does not know would be passed over in silence."""
    settings = pytest.importorskip("prefect_kubernetes.settings")
    (worker,) = (one for one in written() if one["metadata"]["name"] == "prefect-worker")
    for container in worker["spec"]["template"]["spec"]["containers"]:
        environment = {entry["name"]: entry for entry in container["env"]}
        for name, entry in environment.items():
            if "value" in entry:
                monkeypatch.setenv(name, entry["value"])
        read = settings.KubernetesSettings()
        secret = environment["PREFECT_API_AUTH_STRING"]["valueFrom"]["secretKeyRef"]
        named_secret = (read.worker.api_auth_string_secret_name, read.worker.api_auth_string_secret_key)
        assert named_secret == (secret["name"], secret["key"])
        assert read.worker.store_env_as_secret and read.observer.namespaces == {"goku"} and read.cluster_uid


def test_prefects_pages_are_laid_where_the_server_may_write() -> None:
    """Prefect copies its pages before it serves them, by itself to its own package: the image cannot be written to."""
    (server,) = (one for one in written() if (one["kind"], one["metadata"]["name"]) == ("Deployment", "prefect-server"))
    (container,) = server["spec"]["template"]["spec"]["containers"]
    said = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    place = said["PREFECT_SERVER_UI_STATIC_DIRECTORY"]
    assert place.startswith(tuple(f"{mount['mountPath']}/" for mount in container["volumeMounts"]))


def test_a_models_bundle_comes_through_to_mlflow() -> None:
    (proxy,) = (one for one in written() if one["metadata"]["name"] == "goku-mlflow-proxy")
    (server,) = (one for one in written() if (one["kind"], one["metadata"]["name"]) == ("Deployment", "mlflow"))
    (tmp,) = (v for v in server["spec"]["template"]["spec"]["volumes"] if v["name"] == "tmp")
    most = re.search(r"client_max_body_size (\d+)g;", text := proxy["data"]["default.conf"])
    assert most and "proxy_request_buffering off;" in text
    assert int(tmp["emptyDir"]["sizeLimit"].removesuffix("Gi")) > int(most[1]) >= 64, "MLflow keeps it whole in between"


def test_the_worker_alone_may_ask_something_of_kubernetes() -> None:
    """A flow's pod runs what a writer asked for: no token lies in it, and no role is bound to it."""
    found = written()
    bound = {subject["name"] for one in found if one["kind"] == "RoleBinding" for subject in one["subjects"]}
    accounts = [one for one in found if one["kind"] == "ServiceAccount"]
    given = {one["metadata"]["name"] for one in accounts if one["automountServiceAccountToken"]}
    assert bound == given == {"goku-worker"}


def test_every_pool_of_a_deployment_has_a_worker() -> None:
    (worker,) = (one for one in written() if one["metadata"]["name"] == "prefect-worker")
    commands = [container["command"] for container in worker["spec"]["template"]["spec"]["containers"]]
    served = {command[command.index("--pool") + 1] for command in commands}
    declared = yaml.safe_load((KUBERNETES.parents[1] / "prefect.yaml").read_text())["deployments"]
    assert served == {one["work_pool"]["name"] for one in declared}


def test_places_of_killed_trainings_are_free_again_after_a_restart_of_the_server(tmp_path: Path) -> None:
    """Their leases are files, and the files are not the pod's own."""
    lease = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"
    (server,) = (one for one in written() if (one["kind"], one["metadata"]["name"]) == ("Deployment", "prefect-server"))
    spec = server["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment[lease] == servers.environment(tmp_path, "")[lease]
    (mount,) = (one for one in container["volumeMounts"] if one["mountPath"] == environment["PREFECT_HOME"])
    (claim,) = (one for one in spec["volumes"] if one["name"] == mount["name"])
    names = {one["metadata"]["name"] for one in written() if one["kind"] == "PersistentVolumeClaim"}
    assert claim["persistentVolumeClaim"]["claimName"] in names
    (maker,) = spec["initContainers"]
    assert maker["command"] == ["mkdir", "-p", f"{maker['volumeMounts'][0]['mountPath']}/{mount['subPath']}"]
    assert server["spec"]["strategy"]["type"] == "Recreate", "two servers at once would both take leases back"


def test_prefects_server_may_write_its_pages() -> None:
    """It copies them at the start, by default into the image, which cannot be written to: then there is no page."""
    servers = [one for one in written() if one["metadata"]["name"] == "prefect-server" and one["kind"] == "Deployment"]
    for container in servers[0]["spec"]["template"]["spec"]["containers"]:
        said = {one["name"]: one.get("value", "") for one in container["env"]}
        pages = Path(said["PREFECT_SERVER_UI_STATIC_DIRECTORY"])
        assert any(pages.is_relative_to(mount["mountPath"]) for mount in container["volumeMounts"])


def test_the_image_has_what_the_presets_use() -> None:
    """A pretrained VAE comes through diffusers, which is in no other part of the installation."""
    page = (KUBERNETES.parents[1] / "docs/kubernetes.md").read_text()
    (extras,) = re.findall(r"--build-arg EXTRAS=(\S+)", page)
    assert {"kuberay", "kubernetes", "team", "pretrained"} <= set(extras.split(","))


ROLES = {role: Pod({COMPONENT: role}) for role in ("trainer", "curator", "judge", "flow")}
MLFLOW = Pod({"app.kubernetes.io/name": "mlflow", COMPONENT: "server"})
PREFECT = Pod({"app.kubernetes.io/name": "prefect-server", COMPONENT: "server"})
WORKER = Pod({"app.kubernetes.io/name": "prefect-worker", COMPONENT: "worker"})
POSTGRES = Pod({"app.kubernetes.io/name": "postgres", COMPONENT: "database"})
DNS = Pod({"k8s-app": "kube-dns"}, "kube-system")
STRANGER = Pod({"app": "other"}, "elsewhere")
BUCKET = "52.218.1.1"


@needs_kubectl
def test_a_trainer_reaches_the_bucket_mlflow_and_its_like() -> None:
    policies = [one for one in overlay("try") if one["kind"] == "NetworkPolicy"]

    def may(source: Pod, target: Pod | str, port: int, protocol: str = "TCP") -> bool:
        return allowed(policies, source, target, port, protocol)

    trainer = ROLES["trainer"]
    assert may(trainer, BUCKET, 443) and may(trainer, MLFLOW, 5000) and may(trainer, DNS, 53, "UDP")
    assert may(trainer, trainer, 29400) and may(trainer, trainer, 51234)
    for target, port in (
        (BUCKET, 22), (BUCKET, 80), (PREFECT, 4200), (POSTGRES, 5432), (WORKER, 8080), (ROLES["curator"], 6379), (MLFLOW, 5001),
        (STRANGER, 443), ("10.0.0.1", 443), ("10.1.2.3", 443), ("169.254.169.254", 80), ("169.254.169.254", 443),
    ):  # fmt: skip
        assert not may(trainer, target, port), (target, port)
    for other in (ROLES["curator"], ROLES["judge"], ROLES["flow"], STRANGER, WORKER):
        assert not may(other, trainer, 29400)
    assert may(WORKER, PREFECT, 4200) and may(ROLES["flow"], PREFECT, 4200) and may(PREFECT, POSTGRES, 5432)
    assert may(WORKER, "10.0.0.1", 443) and not may(ROLES["flow"], "10.0.0.1", 443)
    assert (
        not may(STRANGER, PREFECT, 4200) and not may(STRANGER, MLFLOW, 5000) and not may(ROLES["judge"], POSTGRES, 5432)
    )
    assert not may(ROLES["curator"], trainer, 22) and may(ROLES["curator"], ROLES["curator"], 6379)
    operator = Pod({"app.kubernetes.io/name": "kuberay-operator"}, "kuberay-operator")
    assert may(operator, ROLES["curator"], 8265) and not may(operator, ROLES["curator"], 6379)


@needs_kubectl
def test_who_restarts_a_training() -> None:
    """Exit codes of `goku node`, and what becomes of the pod and of the job."""
    from goku_core import cli_node

    for gpu in ("a100", "h100", "h200"):
        runtime = named(overlay("team"), "TrainingRuntime", f"goku-{gpu}")
        (job,) = inner(runtime)
        pod, rules = job["spec"]["template"]["spec"], job["spec"]["podFailurePolicy"]["rules"]
        assert pod["restartPolicy"] == "Never", "ranks are the launcher's, pods the Job's"
        assert "onPodConditions" in rules[0], "a host that is taken away is not counted, whatever the code"
        assert rules[0]["action"] == "Ignore" and rules[0]["onPodConditions"][0]["type"] == "DisruptionTarget"

        def action(code: int, rules: list = rules) -> str:
            for rule in rules[1:]:
                if code in rule["onExitCodes"]["values"]:
                    return rule["action"]
            return "Count"

        codes = {
            "mend": cli_node.REFUSED,
            "left": cli_node.LEFT,
            "bad": cli_node.MACHINE_BAD,
            "failed": cli_node.FAILED,
        }
        became = {what: action(code) for what, code in codes.items()}
        assert became == {"mend": "FailJob", "left": "Ignore", "bad": "Count", "failed": "Count"}
        (rule,) = runtime["spec"]["template"]["spec"]["failurePolicy"]["rules"]
        assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
        assert job["spec"]["successPolicy"]["rules"] == [{"succeededIndexes": "0"}]
        assert pod["containers"][0]["command"] == ["goku", "node"] and pod["containers"][0]["name"] == "node"
        assert pod["nodeSelector"] == {"goku.dev/pool": gpu}
