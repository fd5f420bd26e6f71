"""The manifests: valid for Kubernetes 1.32, locked down as the namespace demands, and consistent with each other."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.k8s.manifests import (
    COMPONENTS,
    FOLDER,
    KSERVE_LABELS,
    OVERLAYS,
    RENDERED,
    ROOT,
    Object,
    containers,
    everything,
    pod_labels,
    pod_spec,
    render,
    rights_in,
    title,
    workloads,
)
from tests.k8s.restricted import violations
from tests.k8s.selectors import chooses

CUSTOM = {  # what is not Kubernetes' own: the version we write for, and the fields without which it is refused
    "ClusterQueue": ("kueue.x-k8s.io/v1beta1", ["resourceGroups", "namespaceSelector"]),
    "LocalQueue": ("kueue.x-k8s.io/v1beta1", ["clusterQueue"]),
    "ResourceFlavor": ("kueue.x-k8s.io/v1beta1", []),
    "InferenceService": ("serving.kserve.io/v1beta1", ["predictor"]),
}
CLUSTER_WIDE = ("Namespace", "PriorityClass", "ClusterQueue", "ResourceFlavor")


def validated(each: Object) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(each, "1.32", strict=True)


@pytest.mark.parametrize("folder", RENDERED)
def test_every_object_is_valid_for_kubernetes_1_32(folder: str) -> None:
    for each in render(folder):
        if each["kind"] not in CUSTOM:
            validated(each)


def test_a_wrong_field_is_not_valid() -> None:
    deployment = next(each for each in render("base") if each["kind"] == "Deployment")
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 1}}
    with pytest.raises(Exception, match="replica"):
        validated(wrong)


@pytest.mark.parametrize("folder", COMPONENTS)
def test_an_object_of_an_operator_has_its_version_and_fields(folder: str) -> None:
    for each in render(folder):
        if each["kind"] in CUSTOM:
            version, needed = CUSTOM[each["kind"]]
            assert each["apiVersion"] == version
            assert not [name for name in needed if name not in each["spec"]], title(each)


def test_kserve_gets_its_container_as_it_knows_it() -> None:
    for folder in ("components/kserve", "components/kserve-canary"):
        (service,) = workloads(render(folder))
        (container,) = service["spec"]["predictor"]["containers"]
        assert container["name"] == "kserve-container"
        # Knative refuses it, unless an administrator has turned on kubernetes.podspec-securitycontext.
        assert "securityContext" not in service["spec"]["predictor"]
        assert service["spec"]["predictor"]["minReplicas"] <= service["spec"]["predictor"]["maxReplicas"]


def test_a_canary_asks_for_one_version_by_its_uri_and_takes_a_share_of_the_requests() -> None:
    (usual,), (canary,) = (workloads(render(f"components/{name}")) for name in ("kserve", "kserve-canary"))
    assert "canaryTrafficPercent" not in usual["spec"]["predictor"]
    assert 0 < canary["spec"]["predictor"]["canaryTrafficPercent"] < 50
    (container,) = canary["spec"]["predictor"]["containers"]
    assert [each["value"] for each in container["env"] if each["name"] == "MODEL_URI"] == ["models:/digits/2"]
    assert "--model-uri=$(MODEL_URI)" in container["args"]


def test_a_look_for_dead_runs_never_overlaps_another_and_ends_by_itself() -> None:
    (look,) = workloads(render("components/reap"))
    job = look["spec"]["jobTemplate"]["spec"]
    assert look["spec"]["concurrencyPolicy"] == "Forbid"
    assert job["activeDeadlineSeconds"] < 15 * 60, "it has ended before the next one is due"
    assert pod_spec(look)["restartPolicy"] == "Never"


def test_the_queue_is_named_default_and_leads_to_a_queue_with_room_for_gpus() -> None:
    of = {each["kind"]: each for each in render("components/queue")}
    assert of["LocalQueue"]["metadata"] == {"name": "default", "namespace": "selftrain"}
    assert of["LocalQueue"]["spec"]["clusterQueue"] == of["ClusterQueue"]["metadata"]["name"]
    (group,) = of["ClusterQueue"]["spec"]["resourceGroups"]
    (flavor,) = group["flavors"]
    assert flavor["name"] == of["ResourceFlavor"]["metadata"]["name"]
    assert [each["name"] for each in flavor["resources"]] == group["coveredResources"]
    assert "nvidia.com/gpu" in group["coveredResources"]


@pytest.mark.parametrize("folder", RENDERED)
def test_no_two_objects_have_one_name_and_all_are_in_the_namespace(folder: str) -> None:
    objects = render(folder)
    names = [title(each) for each in objects]
    assert len(names) == len(set(names))
    for each in objects:
        assert each["metadata"].get("namespace") == (None if each["kind"] in CLUSTER_WIDE else "selftrain"), title(each)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_that_is_applied_beside_an_overlay_replaces_a_part_of_it(overlay: str) -> None:
    names = [title(each) for each in everything(overlay)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("folder", RENDERED)
def test_every_pod_is_allowed_where_pod_security_is_restricted(folder: str) -> None:
    for each in workloads(render(folder)):
        assert not violations(pod_spec(each)), title(each)


@pytest.mark.parametrize("folder", RENDERED)
def test_every_pod_runs_as_our_user_on_a_root_that_it_cannot_write(folder: str) -> None:
    for each in workloads(render(folder)):
        spec = pod_spec(each)
        for part in containers(spec):
            rules = {**spec.get("securityContext", {}), **part["securityContext"]}
            assert (rules.get("runAsUser"), rules.get("runAsGroup")) == (10001, 10001), title(each)
        bound = [one["subjects"][0]["name"] for one in rights_in(folder) if one["kind"] == "RoleBinding"]
        assert spec["automountServiceAccountToken"] is (spec["serviceAccountName"] in bound), title(each)
        assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in containers(spec))
        assert "/tmp" in [mount["mountPath"] for container in containers(spec) for mount in container["volumeMounts"]]


@pytest.mark.parametrize("folder", RENDERED)
def test_every_container_has_requests_limits_and_probes(folder: str) -> None:
    for each in workloads(render(folder)):
        for container in containers(pod_spec(each)):
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= set(container["resources"][kind]), f"{title(each)} {container['name']}"
        for container in _serving(each):
            assert {"livenessProbe", "readinessProbe"} <= set(container), f"{title(each)} {container['name']}"


def _serving(each: Object) -> list[Object]:
    """The containers that are asked whether they live; a Job's ends by itself."""
    return [] if each["kind"] == "CronJob" else list(pod_spec(each)["containers"])


@pytest.mark.parametrize("folder", RENDERED)
def test_a_probe_asks_at_a_port_that_its_container_opens(folder: str) -> None:
    for each in workloads(render(folder)):
        for container in _serving(each):
            opened = {port.get("name") for port in container["ports"]} | {
                p["containerPort"] for p in container["ports"]
            }
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container.get(probe, {"tcpSocket": {"port": container["ports"][0]["containerPort"]}})
                assert (asked.get("httpGet") or asked["tcpSocket"])["port"] in opened


@pytest.mark.parametrize("folder", [*OVERLAYS, *COMPONENTS])
def test_every_image_has_a_version(folder: str) -> None:
    for each in workloads(render(folder)):
        for container in containers(pod_spec(each)):
            name, _, version = container["image"].rpartition(":")
            assert name, f"{container['image']} has no version"
            assert version not in ("", "latest")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_a_pod_names_is_there(overlay: str) -> None:
    """Accounts, volumes, configurations, priorities. Secrets are those that k8s/secrets makes (test_secrets.py)."""
    objects = everything(overlay)
    names = {title(each) for each in objects}
    for each in workloads(objects):
        assert not [name for name in _named(pod_spec(each)) if name not in names], title(each)


def _named(spec: Object) -> list[str]:
    named = [f"ServiceAccount/{spec['serviceAccountName']}"]
    named += [f"PriorityClass/{spec['priorityClassName']}"] if "priorityClassName" in spec else []
    for volume in spec["volumes"]:
        if "persistentVolumeClaim" in volume:
            named.append(f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}")
        if "configMap" in volume:
            named.append(f"ConfigMap/{volume['configMap']['name']}")
    sources = [source for container in containers(spec) for source in container.get("envFrom", [])]
    return named + [f"ConfigMap/{each['configMapRef']['name']}" for each in sources if "configMapRef" in each]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_budgets_and_autoscalers_choose_the_pods_of_one_deployment(overlay: str) -> None:
    objects = everything(overlay)
    deployments = {each["metadata"]["name"]: each for each in objects if each["kind"] == "Deployment"}
    for each in objects:
        match each["kind"]:
            case "Service":
                (chosen,) = _chosen(deployments, {"matchLabels": each["spec"]["selector"]})
                opened = {port["name"] for port in pod_spec(chosen)["containers"][0]["ports"]}
                assert {port["targetPort"] for port in each["spec"]["ports"]} <= opened
            case "PodDisruptionBudget":
                (chosen,) = _chosen(deployments, each["spec"]["selector"])
            case "HorizontalPodAutoscaler":
                chosen = deployments[each["spec"]["scaleTargetRef"]["name"]]
                assert "replicas" not in chosen["spec"], "the manifest and the autoscaler would set it in turn"
            case _:
                continue
        assert chosen["metadata"]["name"] == each["metadata"]["name"]
    budgets = {each["metadata"]["name"] for each in objects if each["kind"] == "PodDisruptionBudget"}
    assert budgets == set(deployments)


def _chosen(deployments: dict[str, Object], selector: dict[str, Any]) -> list[Object]:
    return [each for each in deployments.values() if chooses(selector, pod_labels(each))]


@pytest.mark.parametrize("overlay", OVERLAYS[1:])
def test_the_servers_keep_off_gpu_nodes_and_off_spot_nodes_where_there_are_any(overlay: str) -> None:
    labels = {"nvidia.com/gpu.present": "true", "karpenter.sh/capacity-type": "spot"}
    kept_off = list(labels) if overlay.endswith("spot") else list(labels)[:1]
    for each in workloads(render(overlay)):
        affinity = pod_spec(each)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (term,) = affinity["nodeSelectorTerms"]
        assert chooses(term, {}), title(each)
        for key in kept_off:
            assert not chooses(term, {key: labels[key]}), title(each)


def test_a_pod_that_asks_for_much_is_not_refused_for_a_limit_that_it_never_set() -> None:
    """The API gives a container the default limit, and refuses it if it asks for more than that."""
    (default,) = [each["spec"]["limits"][0] for each in render("base") if each["kind"] == "LimitRange"]
    assert set(default["default"]) == {"memory"}, "pods of steps set their memory, but may leave their processors open"
    assert set(default["defaultRequest"]) == {"cpu", "memory"}


def test_where_room_is_short_servers_go_before_runs_and_runs_before_trainings() -> None:
    of = {each["metadata"]["name"]: each for each in render("overlays/gpu-spot") if each["kind"] == "PriorityClass"}
    run = 0  # a pod that names no class
    assert of["selftrain-server"]["value"] > run > of["selftrain-training"]["value"] >= -10, "the autoscaler's limit"
    assert of["selftrain-training"]["preemptionPolicy"] == "Never"


@pytest.mark.parametrize("page", ["docs/cluster.md", "k8s/README.md"])
def test_a_page_names_folders_and_files_of_manifests_that_are_there(page: str) -> None:
    named = set(re.findall(r"k8s/[\w./-]*\w", (ROOT / page).read_text(encoding="utf-8")))
    made = {f"k8s/secrets/{path.name.removesuffix('.example')}" for path in (FOLDER / "secrets").glob("*.example")}
    assert named
    made |= {path for path in named if path.endswith(".key")}  # test_secrets.py asks which command makes it
    assert not [path for path in named - made if not (ROOT / path).exists()]


def test_pods_of_kserve_are_known_by_the_label_that_the_policies_choose() -> None:
    policies = [each for each in render("components/kserve") if each["kind"] == "NetworkPolicy"]
    assert any(chooses(each["spec"]["podSelector"], KSERVE_LABELS) for each in policies)
