"""Proves that the checks can fail: puts one fault after another into a copy of what was read, and expects the check that
must find it to say so. A fault that nothing finds is a problem itself."""

import copy
from collections.abc import Callable, Iterator

from image import shared
from manifests import deployments, find


def pod(facts: dict, role: str, name: str = "base") -> dict:
    return deployments(facts["documents"][name])[role]["spec"]


def container(facts: dict, role: str, name: str = "base") -> dict:
    return pod(facts, role, name)["containers"][0]


def policy(facts: dict, own: str, name: str = "base") -> dict:
    return find(facts["documents"][name], "NetworkPolicy", own)["spec"]


def of(facts: dict, kind: str, own: str, name: str) -> dict:
    return find(facts["documents"][name], kind, own)["spec"]


def settings(facts: dict, old: str, new: str) -> None:
    data = find(facts["documents"]["base"], "ConfigMap", "tasksync-settings")["data"]
    assert old in data["settings.toml"], old
    data["settings.toml"] = data["settings.toml"].replace(old, new)


def text(facts: dict, which: str, old: str, new: str) -> None:
    assert old in facts["texts"][which], old
    facts["texts"][which] = facts["texts"][which].replace(old, new)


def recipe(facts: dict, name: str, new: str, which: tuple[str, ...] = ("Dockerfile", "Containerfile")) -> None:
    for file in which:
        facts["image"]["recipes"][file] = [
            (one, new if one == name and (one, value) in shared(facts["image"]["recipes"][file]) else value)
            for one, value in facts["image"]["recipes"][file]
        ]


def listen(facts: dict, api: str, health: str) -> None:
    recipe(facts, "ENV", f"TASKSYNC_API__LISTEN={api} TASKSYNC_HEALTH__LISTEN={health}")


def without(documents: list[dict], kind: str) -> None:
    documents[:] = [document for document in documents if document["kind"] != kind]


def earlier(facts: dict, what: str, place: str) -> None:
    """Moves a line of the page to the beginning of the console block that has `place`."""
    line = next(line for line in facts["texts"]["page"].splitlines(True) if what in line)
    text(facts, "page", line, "")
    text(facts, "page", f"```console\n{place}", f"```console\n{line}{place}")


#: What is wrong, how it is made, and what the check says.
FAULTS: list[tuple[str, Callable[[dict], object], str]] = [
    ("the image listens on loopback", lambda f: listen(f, "127.0.0.1:8480", "0.0.0.0:8481"), "not reached from outside"),
    ("the image listens elsewhere", lambda f: listen(f, "0.0.0.0:8480", "0.0.0.0:9000"), "EXPOSE"),
    ("the image runs as root", lambda f: recipe(f, "USER", "0:0"), "it runs as root"),
    ("the recipes differ", lambda f: recipe(f, "CMD", '["worker"]', ("Containerfile",)), "Dockerfile and Containerfile differ"),
    ("a folder is not sent", lambda f: f["image"]["sent"].discard("worker"), "does not send"),
    ("the build includes a page", lambda f: f["image"]["included"].append("docs/errors.md"), "does not copy"),
    ("compose mounts secrets elsewhere", lambda f: f["compose"]["services"]["worker"].update(volumes=["./secrets:/run/secrets:ro"]), "secrets.folder"),
    ("compose listens elsewhere", lambda f: f["compose"]["services"]["scheduler"]["environment"].update(TASKSYNC_API__LISTEN="0.0.0.0:80"), "sets where it listens"),
    ("compose exposes another port", lambda f: f["compose"]["services"]["worker"].update(expose=["8482"]), "exposes"),
    ("a pod is killed early", lambda f: pod(f, "worker").update(terminationGracePeriodSeconds=30), "worker.grace_period"),
    ("the settings leave more time", lambda f: settings(f, '"75s"', '"90s"'), "worker.grace_period"),
    ("the settings listen", lambda f: settings(f, "[log]", '[health]\nlisten = "0.0.0.0:8482"\n[log]'), "image's variable wins"),
    ("there are no settings", lambda f: without(f["documents"]["base"], "ConfigMap"), "no ConfigMap tasksync-settings"),
    ("a port is another", lambda f: container(f, "scheduler")["ports"][0].update(containerPort=80), "its ports are not"),
    ("a probe asks the API", lambda f: container(f, "worker")["livenessProbe"]["httpGet"].update(port="api"), "liveness probe"),
    ("a role runs another", lambda f: container(f, "worker").update(args=["scheduler", *container(f, "worker")["args"][1:]]), "it runs scheduler"),
    ("no resources", lambda f: container(f, "worker").pop("resources"), "no resources"),
    ("a root that can be written to", lambda f: container(f, "worker")["securityContext"].pop("readOnlyRootFilesystem"), "root can be written"),
    ("another user", lambda f: pod(f, "worker")["securityContext"].update(runAsUser=1000), "the image's user"),
    ("a volume that can be written to", lambda f: container(f, "worker")["volumeMounts"][0].pop("readOnly"), "a volume can be written"),
    ("secrets elsewhere", lambda f: f.update(secrets_folder="/secrets"), "not mounted at secrets.folder"),
    ("a settings file that is not there", lambda f: container(f, "worker")["args"].__setitem__(2, "/etc/tasksync/other.toml"), "no key of"),
    ("a token that is not mounted", lambda f: container(f, "scheduler")["env"][0].update(value="/token"), "in no mounted volume"),
    ("another image", lambda f: container(f, "worker", "overlays/example").update(image="tasksync"), "its image is"),
    ("no disruption budget", lambda f: without(f["documents"]["base"], "PodDisruptionBudget"), "no PodDisruptionBudget"),
    ("a budget that blocks", lambda f: of(f, "PodDisruptionBudget", "tasksync-worker", "base").update(maxUnavailable=0), "lets no node be drained"),
    ("a budget of nothing", lambda f: of(f, "PodDisruptionBudget", "tasksync-worker", "base")["selector"]["matchLabels"].update(x="y"), "selects no pod"),
    ("spread among others", lambda f: pod(f, "scheduler")["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"].update(labelSelector={"matchLabels": {"x": "y"}}), "not its own"),
    ("a service of nothing", lambda f: of(f, "Service", "tasksync", "base")["selector"].update(x="y"), "selects no pod"),
    ("a service's port", lambda f: of(f, "Service", "tasksync", "base")["ports"][0].update(targetPort="http"), "has the port http"),
    ("a volume that is not there", lambda f: pod(f, "worker")["volumes"].pop(0), "there is no volume settings"),
    ("an Ingress to nothing", lambda f: of(f, "Ingress", "tasksync", "everything")["rules"][0]["http"]["paths"][0]["backend"]["service"].update(name="x"), "of a Service x"),
    ("an Ingress without TLS", lambda f: of(f, "Ingress", "tasksync", "everything").pop("tls"), "has no TLS"),
    ("a monitor of another port", lambda f: of(f, "PodMonitor", "tasksync", "overlays/online")["podMetricsEndpoints"][0].update(port="metrics"), "has the port metrics"),
    ("a scale of nothing", lambda f: of(f, "ScaledObject", "tasksync-worker", "overlays/online")["scaleTargetRef"].update(name="x"), "no Deployment x"),
    ("a pod as root", lambda f: pod(f, "worker")["securityContext"].pop("runAsNonRoot"), "level restricted"),
    ("a pod with rights", lambda f: container(f, "worker")["securityContext"].pop("capabilities"), "level restricted"),
    ("a pod with a host's folder", lambda f: pod(f, "worker")["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "level restricted"),
    ("a namespace that allows all", lambda f: find(f["documents"]["base"], "Namespace", "tasksync")["metadata"].update(labels={}), "does not enforce"),
    ("a label is missing", lambda f: find(f["documents"]["everything"], "Ingress", "tasksync")["metadata"]["labels"].pop("app.kubernetes.io/part-of"), "has no label"),
    ("an old version", lambda f: f.update(version="0.2.0"), "label version"),
    ("no names from the node", lambda f: policy(f, "tasksync")["egress"][0]["to"].pop(1), "169.254.20.10"),
    ("no names over TCP", lambda f: policy(f, "tasksync")["egress"][0]["ports"].pop(1), "on TCP 53"),
    ("no stores outside", lambda f: policy(f, "tasksync-stores")["egress"].pop(1), "the store at 10.20.30.7"),
    ("no RabbitMQ over TLS", lambda f: policy(f, "tasksync-stores")["egress"][1]["ports"].pop(3), "10.20.30.7:5671"),
    ("stores everywhere", lambda f: policy(f, "tasksync-stores")["egress"][1]["to"].append({"ipBlock": {"cidr": "0.0.0.0/0"}}), "allow Egress"),
    ("stores in every namespace", lambda f: policy(f, "tasksync-stores")["egress"][0]["to"].append({"namespaceSelector": {}}), "any pod on TCP 5432"),
    ("the narrowed policy is wide", lambda f: policy(f, "tasksync-stores", "everything")["egress"][1]["to"][0]["ipBlock"].update(cidr="10.0.0.0/8"), "no store's address"),
    ("no tenants", lambda f: policy(f, "tasksync-tenants").update(egress=[]), "on TCP 443"),
    ("no Kerberos", lambda f: policy(f, "tasksync-tenants")["egress"][0]["ports"].pop(1), "on TCP 88"),
    ("a cloud's metadata", lambda f: policy(f, "tasksync-tenants")["egress"][0]["to"][0]["ipBlock"].pop("except"), "169.254.169.254"),
    ("metrics on another port", lambda f: policy(f, "tasksync")["ingress"][0]["ports"][0].update(port=9090), "on TCP 8481"),
    ("an API for all", lambda f: policy(f, "tasksync-api")["ingress"][0].update({"from": [{"namespaceSelector": {}}]}), "on TCP 8480"),
    ("an API of workers", lambda f: policy(f, "tasksync-api")["podSelector"]["matchLabels"].pop("app.kubernetes.io/component"), "of a worker"),
    ("a query of an unknown metric", lambda f: of(f, "ScaledObject", "tasksync-worker", "overlays/online")["triggers"][0]["metadata"].update(query="max(tasksync_x)"), "unknown metrics"),
    ("no scaling", lambda f: without(f["documents"]["overlays/online"], "ScaledObject"), "no ScaledObject"),
    ("two owners of the number", lambda f: of(f, "Deployment", "tasksync-worker", "overlays/online").update(replicas=2), "is KEDA's"),
    ("no workers at night", lambda f: of(f, "ScaledObject", "tasksync-worker", "overlays/online").update(minReplicaCount=0), "no user is synced"),
    ("scaling down early", lambda f: of(f, "ScaledObject", "tasksync-worker", "overlays/online")["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"].update(stabilizationWindowSeconds=60), "looks back less"),
    ("KEDA's version is not named", lambda f: text(f, "page", "KEDA 2.18", "KEDA"), "needs KEDA 2.18"),
    ("other alerts", lambda f: f["alerts"]["groups"].pop(), "is not alerts.yaml"),
    ("no private authority", lambda f: container(f, "worker", "everything")["env"].pop(), "does not trust"),
    ("no Ingress", lambda f: without(f["documents"]["everything"], "Ingress"), "there is no Ingress"),
    ("a store on a port of its own", lambda f: f["addresses"].append(("rediss", "redis.example", "6380")), "no port 6380"),
    ("a trial's store that is not there", lambda f: f["addresses"].append(("redis", "valkey.tasksync-trial-stores.svc", "6379")), "no such service"),
    ("a trial's store for all", lambda f: policy(f, "trial-stores", "trial-stores")["ingress"].append({"ports": [{"port": 6379}], "from": [{"namespaceSelector": {}}]}), "wrong about any pod"),
    ("a trial's namespace without its label", lambda f: find(f["documents"]["trial-stores"], "Namespace", "tasksync-trial-stores")["metadata"]["labels"].pop("tasksync.example/stores"), "may not connect to its namespace"),
    ("the namespace after the secrets", lambda f: text(f, "page", "$ kubectl apply -f deploy/kubernetes/base/namespace.yaml\n", ""), "the namespace does not come before"),
    ("the start before the secrets", lambda f: earlier(f, "kubectl apply -k $OVERLAY", "$ kubectl apply -f deploy/kubernetes/base"), "the secret tasksync-token does not come before"),
    ("a secret that no command makes", lambda f: f["referenced"].add("tasksync-x"), "no command creates ['tasksync-x']"),
    ("a deployment that is not there", lambda f: text(f, "page", "status deployment/tasksync-worker", "status deployment/worker"), "no deployment worker"),
    ("a file that is not there", lambda f: text(f, "page", "deploy/kubernetes/trial-stores/namespace.yaml", "deploy/kubernetes/trial/namespace.yaml"), "there is no deploy/kubernetes/trial/"),
    ("a target that is not there", lambda f: text(f, "makefile", "image-push:", "push:"), "no make target image-push"),
    ("a label that no policy selects", lambda f: text(f, "page", "monitoring tasksync.example/metrics=true", "monitoring tasksync.example/x=true"), "no policy selects"),
    ("a tenant's secret elsewhere", lambda f: text(f, "page", "file:/run/secrets/tenants/", "file:/run/secrets/"), "is not in secrets.folder"),
]


def check_faults(facts: dict, check: Callable[[dict], Iterator[str]]) -> Iterator[str]:
    for what, put, said in FAULTS:
        faulty = copy.deepcopy(facts)
        try:
            put(faulty)
        except (AssertionError, IndexError, KeyError, StopIteration, TypeError) as error:
            yield f"faults.py: the fault \"{what}\" can no longer be made: {error!r}"
            continue
        if not any(said in problem for problem in check(faulty)):
            yield f"faults.py: no check finds the fault \"{what}\" (expected: {said})"
