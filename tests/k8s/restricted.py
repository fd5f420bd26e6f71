"""Pod Security "restricted": what a namespace of that level refuses in a pod.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards, as of Kubernetes 1.32.
"""

from __future__ import annotations

from typing import Any

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
PROFILES = ("RuntimeDefault", "Localhost")


def violations(spec: dict[str, Any]) -> list[str]:
    """Each rule that a pod's spec breaks, in words; none for a pod that is allowed."""
    found = [f"{name} is on" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    found += [
        f"volume {each['name']} is a {kind}"
        for each in spec.get("volumes") or []
        for kind in set(each) - {"name"} - VOLUMES
    ]
    pod = spec.get("securityContext") or {}
    found += [f"sysctl {each['name']}" for each in pod.get("sysctls") or [] if each["name"] not in SYSCTLS]
    found += _of_context("the pod", pod)
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or []:
            found += _of_container(container, pod)
    return found


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> list[str]:
    own = container.get("securityContext") or {}
    name, capabilities = container["name"], own.get("capabilities") or {}
    found = _of_context(name, own)
    effective = {**pod, **{key: value for key, value in own.items() if value is not None}}
    if effective.get("runAsNonRoot") is not True:
        found.append(f"{name} may run as root")
    if (effective.get("seccompProfile") or {}).get("type") not in PROFILES:
        found.append(f"{name} has no seccomp profile")
    if own.get("allowPrivilegeEscalation") is not False:
        found.append(f"{name} may gain privileges")
    if "ALL" not in (capabilities.get("drop") or []):
        found.append(f"{name} keeps capabilities")
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        found.append(f"{name} adds capabilities")
    found += [
        f"{name} opens the host's port {p['hostPort']}" for p in container.get("ports") or [] if p.get("hostPort")
    ]
    return found


def _of_context(name: str, context: dict[str, Any]) -> list[str]:
    found = [f"{name} is privileged"] if context.get("privileged") else []
    found += [f"{name} runs as user 0"] if context.get("runAsUser") == 0 else []
    found += [f"{name} may run as root"] if context.get("runAsNonRoot") is False else []
    found += [f"{name} is unconfined"] if (context.get("seccompProfile") or {}).get("type") == "Unconfined" else []
    found += [f"{name} changes /proc"] if context.get("procMount", "Default") != "Default" else []
    return found
