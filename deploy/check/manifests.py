"""The Kubernetes files: what must agree among them, and with the settings, the image and the page that explains them.
Each check is a function of values that were read before, and yields what is wrong; faults.py proves that it can."""

import re
import tomllib

import yaml

from image import ports as image_ports
from image import user as image_user
from network import STORE_PORTS, allows, check_policies, check_store_addresses, matches
from problems import metrics_in, seconds

ROLES = ("scheduler", "worker")
LABELS = ("name", "instance", "part-of", "version", "managed-by")
#: KEDA before this version refuses a fallback beside metricType: Value.
KEDA = "2.18"
#: Workers of which a person notices the absence at most this long; schedule.maximum_time_between_user_syncs.
LONGEST_TIME_BETWEEN_SYNCS = 12 * 60
#: Volumes that the Pod Security level "restricted" allows and that the manifests use.
VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


def find(documents: list[dict], kind: str, name: str) -> dict:
    """The one object of this kind and name, or nothing. kustomize puts a hash behind the names of ConfigMaps."""
    suffix = r"(-[a-z0-9]{10})?" if kind == "ConfigMap" else ""
    found = [d for d in documents if d["kind"] == kind and re.fullmatch(re.escape(name) + suffix, d["metadata"]["name"])]
    return found[0] if len(found) == 1 else {}


def templates(documents: list[dict]) -> list[tuple[dict, dict]]:
    """The workloads with their pods."""
    return [(d, d["spec"]["template"]) for d in documents if d["kind"] in ("Deployment", "StatefulSet")]


def deployments(documents: list[dict]) -> dict[str, dict]:
    """The pods of tasksync's roles."""
    return {role: find(documents, "Deployment", f"tasksync-{role}").get("spec", {}).get("template", {}) for role in ROLES}


def pod_labels(documents: list[dict]) -> dict[str, dict]:
    return {role: pod["metadata"]["labels"] for role, pod in deployments(documents).items()}


def check_names(name: str, documents: list[dict]):
    """What one object calls another exists."""
    pods = [pod for _, pod in templates(documents)]
    containers = {id(pod): [port["name"] for part in pod["spec"]["containers"] for port in part["ports"]] for pod in pods}

    def selected(selector: dict) -> list[dict]:
        return [pod for pod in pods if matches(selector, pod["metadata"]["labels"])]

    for document in documents:
        kind, own = document["kind"], document["metadata"]["name"]
        spec = document.get("spec", {})
        where = f"{name}: {kind} {own}"
        if kind in ("NetworkPolicy", "PodDisruptionBudget", "PodMonitor"):
            selector = spec["podSelector" if kind == "NetworkPolicy" else "selector"]
            if not selected(selector):
                yield f"{where} selects no pod"
        if kind == "PodMonitor":
            for end in spec["podMetricsEndpoints"]:
                if any(end["port"] not in containers[id(pod)] for pod in selected(spec["selector"])):
                    yield f"{where}: not every pod has the port {end['port']}"
        if kind == "Service":
            chosen = selected({"matchLabels": spec["selector"]})
            if not chosen:
                yield f"{where} selects no pod"
            for port in spec["ports"]:
                if any(port["targetPort"] not in containers[id(pod)] for pod in chosen):
                    yield f"{where}: not every pod has the port {port['targetPort']}"
        if kind == "Ingress":
            for rule in spec["rules"]:
                for path in rule["http"]["paths"]:
                    service = path["backend"]["service"]
                    known = find(documents, "Service", service["name"]).get("spec", {}).get("ports", [])
                    if service["port"]["name"] not in [port["name"] for port in known]:
                        yield f"{where}: there is no port {service['port']['name']} of a Service {service['name']}"
                if rule["host"] not in [host for entry in spec.get("tls", []) for host in entry["hosts"]]:
                    yield f"{where}: {rule['host']} has no TLS, and requests carry the operator's token"
        if kind == "ScaledObject":
            target = spec["scaleTargetRef"]
            if not find(documents, target["kind"], target["name"]):
                yield f"{where}: there is no {target['kind']} {target['name']}"
    for owner, pod in templates(documents):
        where = f"{name}: {owner['metadata']['name']}"
        labels = pod["metadata"]["labels"]
        spread = [part["labelSelector"] for part in pod["spec"].get("topologySpreadConstraints", [])]
        apart = pod["spec"].get("affinity", {}).get("podAntiAffinity", {})
        apart = apart.get("preferredDuringSchedulingIgnoredDuringExecution", [])
        spread += [part["podAffinityTerm"]["labelSelector"] for part in apart]
        if not all(matches(selector, labels) for selector in spread):
            yield f"{where}: it is spread among pods that are not its own"
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
        for container in pod["spec"]["containers"]:
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{where}: there is no volume {mount['name']}"


def check_security(name: str, documents: list[dict]):
    """Every pod passes the Pod Security level "restricted", which its namespace enforces."""
    for namespace in (d for d in documents if d["kind"] == "Namespace"):
        if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{name}: the namespace {namespace['metadata']['name']} does not enforce the level restricted"
    for owner, pod in templates(documents):
        spec = pod["spec"]
        own = spec.get("securityContext", {})
        right = own.get("runAsNonRoot") is True and own.get("seccompProfile") == {"type": "RuntimeDefault"}
        right = right and not any(spec.get(part) for part in ("hostNetwork", "hostPID", "hostIPC"))
        for container in spec["containers"] + spec.get("initContainers", []):
            limits = container.get("securityContext", {})
            right = right and limits.get("allowPrivilegeEscalation") is False
            right = right and limits.get("capabilities") == {"drop": ["ALL"]} and not limits.get("privileged")
            right = right and not any("hostPort" in port for port in container["ports"])
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
        if not right or kinds - VOLUMES or spec.get("automountServiceAccountToken") is not False:
            yield f"{name}: {owner['metadata']['name']} would be refused by the Pod Security level restricted"


def check_workloads(name: str, documents: list[dict], facts: dict):
    """The Deployments agree with the settings, the image, and each other."""
    text = find(documents, "ConfigMap", "tasksync-settings").get("data", {}).get("settings.toml")
    if text is None:
        yield f"{name}: there is no ConfigMap tasksync-settings with settings.toml"
        return
    settings = tomllib.loads(text)
    for part in ("api", "health"):
        if "listen" in settings.get(part, {}):
            yield f"{name}: settings.toml sets {part}.listen, over which the image's variable wins"
    listening = image_ports(facts["image"])
    for role, pod in deployments(documents).items():
        where = f"{name}: {role}"
        spec = pod["spec"]
        container = spec["containers"][0]
        if spec["terminationGracePeriodSeconds"] != seconds(settings["worker"]["grace_period"]):
            yield f"{where}: terminationGracePeriodSeconds is not worker.grace_period"
        wanted = {"api": listening["api"], "health": listening["health"]} if role == "scheduler" else {"health": listening["health"]}
        if {port["name"]: port["containerPort"] for port in container["ports"]} != wanted:
            yield f"{where}: its ports are not those of the image, {wanted}"
        for probe, path in (("startup", "/livez"), ("liveness", "/livez"), ("readiness", "/readyz")):
            if container.get(f"{probe}Probe", {}).get("httpGet") != {"path": path, "port": "health"}:
                yield f"{where}: the {probe} probe is not {path} at the health port"
        if container["args"][0] != role:
            yield f"{where}: it runs {container['args'][0]}"
        if not {"requests", "limits"} <= set(container.get("resources", {})):
            yield f"{where}: it has no resources"
        if container["securityContext"].get("readOnlyRootFilesystem") is not True:
            yield f"{where}: its root can be written to"
        own = spec["securityContext"]
        if {own.get(part) for part in ("runAsUser", "runAsGroup", "fsGroup")} != {image_user(facts["image"])}:
            yield f"{where}: it does not run as the image's user"
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        if not all(mount.get("readOnly") for mount in container["volumeMounts"]):
            yield f"{where}: a volume can be written to"
        if volumes.get(mounts.get(facts["secrets_folder"]), {}).get("secret", {}).get("secretName") != "tasksync-tenants":
            yield f"{where}: the tenants' secrets are not mounted at secrets.folder, {facts['secrets_folder']}"
        files = [container["args"][container["args"].index("--config") + 1]]
        files += [variable["value"] for variable in container.get("env", []) if variable.get("value", "").startswith("/")]
        for file in files:
            folder, _, key = file.rpartition("/")
            volume = volumes.get(mounts.get(folder), {})
            secret, configmap = volume.get("secret", {}).get("secretName"), volume.get("configMap", {}).get("name", "")
            if not secret and not configmap:
                yield f"{where}: {file} is in no mounted volume"
            elif key not in facts["keys"].get(secret or re.sub(r"-[a-z0-9]{10}$", "", configmap), set()):
                yield f"{where}: {file} is no key of {secret or configmap}"
        image = container["image"]
        if facts["images"][name] and image != facts["images"][name]:
            yield f"{where}: its image is {image}, not {facts['images'][name]}"
    budgets = [d["spec"] for d in documents if d["kind"] == "PodDisruptionBudget"]
    for role, pod in deployments(documents).items():
        chosen = [budget for budget in budgets if matches(budget["selector"], pod["metadata"]["labels"])]
        if len(chosen) != 1 or not chosen[0].get("maxUnavailable", 0) >= 1:
            yield f"{name}: {role}: no PodDisruptionBudget, or one that lets no node be drained"


def check_labels(name: str, documents: list[dict], version: str):
    objects = [(f"{d['kind']} {d['metadata']['name']}", d["metadata"].get("labels", {})) for d in documents]
    objects += [(f"pods of {owner['metadata']['name']}", pod["metadata"]["labels"]) for owner, pod in templates(documents)]
    for what, labels in objects:
        missing = [label for label in LABELS if f"app.kubernetes.io/{label}" not in labels]
        if missing:
            yield f"{name}: {what} has no label {missing}"
        elif labels["app.kubernetes.io/version"] != version:
            yield f"{name}: {what}: the label version is not that of the workspace, {version}"


def check_scaling(documents: list[dict], facts: dict):
    if "replicas" in find(documents, "Deployment", "tasksync-worker").get("spec", {}):
        yield "online: the number of workers is KEDA's"
    scaled = find(documents, "ScaledObject", "tasksync-worker").get("spec")
    if not scaled:
        yield "online: there is no ScaledObject tasksync-worker"
        return
    for trigger in scaled["triggers"]:
        unknown = metrics_in(trigger["metadata"]["query"]) - facts["metrics"]
        if unknown or not metrics_in(trigger["metadata"]["query"]):
            yield f"scaled-object.yaml: unknown metrics {sorted(unknown)}"
        if "fallback" in scaled and trigger.get("metricType") == "Value":
            for place in ("page", "online"):
                if f"KEDA {KEDA}" not in facts["texts"][place]:
                    yield f"scaled-object.yaml: its fallback needs KEDA {KEDA}, which {place} does not say"
    if scaled["minReplicaCount"] < 1:
        yield "scaled-object.yaml: without a worker no user is synced"
    down = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"]
    if down < LONGEST_TIME_BETWEEN_SYNCS:
        yield "scaled-object.yaml: scaleDown looks back less than maximum_time_between_user_syncs"
    if find(documents, "PrometheusRule", "tasksync").get("spec") != facts["alerts"]:
        yield "prometheus-rule.yaml is not alerts.yaml: run check.py --write"


def check_stores(documents: dict[str, list[dict]], facts: dict):
    """Every address that the page or the example of Secrets names can be reached, in the cluster or outside it."""
    trial = documents["trial-stores"]
    for scheme, host, port in facts["addresses"]:
        where = f"{scheme}://{host}:{port}"
        if int(port) not in STORE_PORTS:
            yield f"{where}: the policies have no port {port}"
        inside = re.fullmatch(r"([a-z]+)\.tasksync-trial-stores\.svc", host)
        if inside:
            service = find(trial, "Service", inside.group(1)).get("spec", {})
            if int(port) not in [one["port"] for one in service.get("ports", [])]:
                yield f"{where}: trial-stores has no such service"
    own = {"kubernetes.io/metadata.name": "tasksync"}
    for owner, pod in templates(trial):
        for container in pod["spec"]["containers"]:
            for port in container["ports"]:
                for peer, right in ((own, True), ({}, False)):
                    if allows(trial, pod["metadata"]["labels"], "Ingress", peer, port["containerPort"]) != right:
                        yield f"trial-stores: {owner['metadata']['name']}: the policy is wrong about {peer or 'any pod'}"
    labels = find(trial, "Namespace", "tasksync-trial-stores")["metadata"]["labels"]
    for role, pod in pod_labels(documents["base"]).items():
        if not allows(documents["base"], pod, "Egress", labels, 5432):
            yield f"trial-stores: a {role} may not connect to its namespace"


def check_kubernetes(facts: dict):
    documents = facts["documents"]
    for name, objects in documents.items():
        yield from check_names(name, objects)
        yield from check_security(name, objects)
        if name == "trial-stores":
            continue
        yield from check_workloads(name, objects, facts)
        yield from check_labels(name, objects, facts["version"])
        yield from check_policies(name, objects, pod_labels(objects), image_ports(facts["image"]))
    for name in ("base", "overlays/online", "overlays/example"):
        yield from check_store_addresses(name, documents[name], pod_labels(documents[name]), "10.20.30.7", set(STORE_PORTS), None)
    narrowed = documents["everything"]
    yield from check_store_addresses("everything", narrowed, pod_labels(narrowed), "10.20.30.7", {5432, 6379, 5671}, "10.9.9.9")
    for name in ("overlays/online", "everything"):
        yield from check_scaling(documents[name], facts)
    if not find(narrowed, "Ingress", "tasksync"):
        yield "everything: there is no Ingress"
    for role, pod in deployments(narrowed).items():
        named = [variable["name"] for variable in pod["spec"]["containers"][0]["env"]]
        if "TASKSYNC_OUTBOUND__AUTHORITIES" not in named:
            yield f"everything: a {role} does not trust the private authority"
    yield from check_stores(documents, facts)
