"""What network policies let through, worked out from the policies alone, as their specification words it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Pod:
    """labels of the pod; namespace: the platform's own, or another by name"""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = "goku"


def allowed(policies: list[dict[str, Any]], source: Pod, target: Pod | str, port: int, protocol: str = "TCP") -> bool:
    """May `source` open a connection to `target` (a pod, or an address)? A pod that no policy selects may all."""
    out = [p["spec"] for p in policies if _selects(p, source) and "Egress" in p["spec"]["policyTypes"]]
    leaves = not out or any(
        _ports(rule, port, protocol) and _peers(rule.get("to"), target) for one in out for rule in one.get("egress", [])
    )
    if isinstance(target, str):
        return leaves
    into = [p["spec"] for p in policies if _selects(p, target) and "Ingress" in p["spec"]["policyTypes"]]
    enters = not into or any(
        _ports(rule, port, protocol) and _peers(rule.get("from"), source)
        for one in into
        for rule in one.get("ingress", [])
    )
    return leaves and enters


def _selects(policy: dict[str, Any], pod: Pod) -> bool:
    return pod.namespace == policy["metadata"]["namespace"] and _matches(policy["spec"]["podSelector"], pod.labels)


def _ports(rule: dict[str, Any], port: int, protocol: str) -> bool:
    if "ports" not in rule:
        return True
    return any(one.get("port", port) == port and one.get("protocol", "TCP") == protocol for one in rule["ports"])


def _peers(peers: list[dict[str, Any]] | None, other: Pod | str) -> bool:
    if peers is None:
        return True
    for peer in peers:
        if "ipBlock" in peer:
            if isinstance(other, str) and _in_block(peer["ipBlock"], other):
                return True
        elif isinstance(other, Pod):
            here = (
                _matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace})
                if ("namespaceSelector" in peer)
                else other.namespace == "goku"
            )
            if here and _matches(peer.get("podSelector", {}), other.labels):
                return True
    return False


def _in_block(block: dict[str, Any], address: str) -> bool:
    where = ipaddress.ip_address(address)
    inside = where in ipaddress.ip_network(block["cidr"])
    return inside and not any(where in ipaddress.ip_network(cut) for cut in block.get("except", []))


def _matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for one in selector.get("matchExpressions", []):
        if one["operator"] != "In":
            raise ValueError(f"operator {one['operator']} is not used here")
        if labels.get(one["key"]) not in one["values"]:
            return False
    return True
