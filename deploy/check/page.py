"""docs/kubernetes.md: its commands are in an order that works, and what they name exists."""

import re

from manifests import find
from problems import PROJECT


def commands(page: str) -> list[str]:
    """The commands of the page in order, each with its continued lines and here-documents."""
    blocks = re.findall(r"^ *```console\n(.*?)^ *```$", page, re.M | re.S)
    return [part.strip() for block in blocks for part in re.split(r"^ *\$ ", block, flags=re.M) if part.strip()]


def addresses(*texts: str) -> list[tuple[str, str, str]]:
    """Scheme, host and port of every store that the texts name."""
    found = re.findall(r"\b(postgres|rediss?|amqps?)://\S*@([a-z0-9.-]+):(\d+)", "\n".join(texts))
    return sorted(set(found))


def created(page: str, kind: str) -> dict[str, int]:
    """Secrets or ConfigMaps that commands create, with the place of the first command that does."""
    pattern = rf"create {kind} (?:generic |docker-registry |tls )?([a-z0-9-]+)"
    found: dict[str, int] = {}
    for number, command in enumerate(commands(page)):
        for name in re.findall(pattern, command):
            found.setdefault(name, number)
    return found


def check_page(facts: dict):
    page = facts["texts"]["page"]
    steps = commands(page)
    everything, trial = facts["documents"]["everything"], facts["documents"]["trial-stores"]

    def first(part: str) -> int:
        return next((number for number, step in enumerate(steps) if part in step), 10**6)

    starts = first("apply -k $OVERLAY")
    order = [
        ("make image ", first("make image "), first("make image-push ")),
        ("the overlay", first("export OVERLAY="), starts),
        ("the namespace", first("apply -f deploy/kubernetes/base/namespace.yaml"), min(created(page, "secret").values())),
        ("the trial's namespace", first("trial-stores/namespace.yaml"), created(page, "secret").get("tasksync-trial-stores", -1)),
        ("the trial's secret", created(page, "secret").get("tasksync-trial-stores", 10**6), first("apply -k deploy/kubernetes/trial-stores")),
        ("tasksync's start", starts, first("rollout status deployment/tasksync-scheduler")),
        ("the function tasksync", first("tasksync() {"), first("tenant add")),
        ("the first tenant", first("tenant add"), first("user opt-in")),
    ]
    order += [(f"the secret {name}", created(page, "secret").get(name, 10**6), starts) for name in facts["required"]]
    for what, before, after in order:
        if not before < after < 10**6:
            yield f"page: {what} does not come before what needs it"
    made = set(created(page, "secret")) | set(created(page, "configmap"))
    unmade = facts["referenced"] - made
    if unmade:
        yield f"page: no command creates {sorted(unmade)}"
    for namespace, kind, name in re.findall(r"-n (\S+)[^\n]*? (deployment|statefulset|service)/([a-z0-9-]+)", "\n".join(steps)):
        documents = trial if namespace == "tasksync-trial-stores" else everything
        names = {"deployment": "Deployment", "statefulset": "StatefulSet", "service": "Service"}
        if not find(documents, names[kind], name):
            yield f"page: there is no {kind} {name} in {namespace}"
    for path in re.findall(r"\b(deploy/[A-Za-z0-9_./-]+[A-Za-z0-9_])", page):
        if not path.endswith("overlays/mine") and not (PROJECT / path).exists():
            yield f"page: there is no {path}"
    for target in re.findall(r"^make (\S+)", "\n".join(steps), re.M):
        if not re.search(rf"^{re.escape(target)}:", facts["texts"]["makefile"], re.M):
            yield f"page: there is no make target {target}"
    for label in re.findall(r"kubectl label namespace \S+ ([a-z./]+)=true", "\n".join(steps)):
        if label not in facts["texts"]["policies"]:
            yield f"page: no policy selects the label {label}"
    if f"file:{facts['secrets_folder']}/" not in page:
        yield f"page: the tenant's secret is not in secrets.folder, {facts['secrets_folder']}"
