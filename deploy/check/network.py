"""What network policies allow, and what they must allow."""

from ipaddress import ip_address, ip_network

#: Addresses that stand for their kind: in a private network, in a public one, the cache of names on each node, and a
#: cloud's metadata.
PRIVATE, PUBLIC, PUBLIC_6 = "10.20.30.7", "203.0.113.5", "2001:db8::5"
NODE_NAMES, CLUSTER_NAMES, METADATA, LINK_6 = "169.254.20.10", "10.96.0.10", "169.254.169.254", "fe80::1"
#: PostgreSQL, Redis, Sentinel, RabbitMQ with and without TLS.
STORE_PORTS = (5432, 6379, 26379, 5671, 5672)


def matches(selector: dict, labels: dict) -> bool:
    """Whether the labels are selected. Only matchLabels is known here; the manifests use nothing else."""
    assert set(selector) <= {"matchLabels"}, f"a selector of another form: {selector}"
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())


def peer_matches(rule: dict, peer: str | dict) -> bool:
    """Whether a rule's peer covers an address (text) or a pod of a namespace with these labels (dict)."""
    if isinstance(peer, dict):
        return "namespaceSelector" in rule and "podSelector" not in rule and matches(rule["namespaceSelector"], peer)
    block = rule.get("ipBlock")
    if block is None:
        return False
    address = ip_address(peer)
    return address in ip_network(block["cidr"]) and not any(
        address in ip_network(part) for part in block.get("except", [])
    )


def allows(documents: list[dict], pod: dict, direction: str, peer: str | dict, port: int, protocol: str = "TCP") -> bool:
    """Whether the policies let the pod with these labels receive ("Ingress") or open ("Egress") such a connection."""
    policies = [
        document["spec"]
        for document in documents
        if document["kind"] == "NetworkPolicy"
        and direction in document["spec"]["policyTypes"]
        and matches(document["spec"]["podSelector"], pod)
    ]
    if not policies:
        return True
    end = {"Ingress": "from", "Egress": "to"}[direction]
    return any(
        any(peer_matches(one, peer) for one in rule.get(end, []))
        and any(
            one["port"] == port and one.get("protocol", "TCP") == protocol
            for one in rule.get("ports", [{"port": port, "protocol": protocol}])
        )
        for policy in policies
        for rule in policy.get(direction.lower(), [])
    )


def check_policies(name: str, documents: list[dict], pods: dict[str, dict], ports: dict[str, int]):
    """`pods` are the labels of the pods of each role, `ports` where the image listens."""
    stores, metrics, api = ({f"tasksync.example/{part}": "true"} for part in ("stores", "metrics", "api"))
    for role, labels in pods.items():
        wanted = [
            ("Egress", CLUSTER_NAMES, 53, "UDP", True),
            ("Egress", NODE_NAMES, 53, "UDP", True),
            ("Egress", NODE_NAMES, 53, "TCP", True),
            ("Egress", {}, 53, "UDP", True),
            ("Egress", PUBLIC, 53, "UDP", False),
            ("Egress", PUBLIC, 443, "TCP", True),
            ("Egress", PUBLIC_6, 443, "TCP", True),
            ("Egress", PRIVATE, 443, "TCP", True),
            ("Egress", PRIVATE, 88, "TCP", True),
            ("Egress", METADATA, 443, "TCP", False),
            ("Egress", METADATA, 88, "TCP", False),
            ("Egress", METADATA, 80, "TCP", False),
            ("Egress", LINK_6, 443, "TCP", False),
            ("Egress", PUBLIC, 5432, "TCP", False),
            ("Egress", stores, 4318, "TCP", True),
            ("Egress", {}, 5432, "TCP", False),
            ("Ingress", metrics, ports["health"], "TCP", True),
            ("Ingress", {}, ports["health"], "TCP", False),
            ("Ingress", api, ports["api"], "TCP", role == "scheduler"),
            ("Ingress", {}, ports["api"], "TCP", False),
            ("Ingress", PUBLIC, ports["api"], "TCP", False),
        ]
        wanted += [("Egress", stores, port, "TCP", True) for port in STORE_PORTS]
        for direction, peer, port, protocol, right in wanted:
            if allows(documents, labels, direction, peer, port, protocol) != right:
                verb = "refuse" if right else "allow"
                yield f"{name}: the policies {verb} {direction} of a {role} with {peer or 'any pod'} on {protocol} {port}"


def check_store_addresses(name: str, documents: list[dict], pods: dict[str, dict], address: str, ports: set[int], outside: str | None):
    """Stores at `address` are reached on `ports`; those at `outside`, if it is given, are not."""
    for role, labels in pods.items():
        for port in sorted(ports):
            if not allows(documents, labels, "Egress", address, port):
                yield f"{name}: the policies refuse a {role} the store at {address}:{port}"
            if outside and allows(documents, labels, "Egress", outside, port):
                yield f"{name}: the policies allow a {role} a store at {outside}:{port}, which is no store's address"
