"""Checks the deployment files and what must agree between them. See check.sh."""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import yaml
from compose_spec import PyCompose

DEPLOY = Path(__file__).resolve().parent.parent
DOCS = DEPLOY.parent / "docs"
#: Kinds that a cluster has only after an operator is installed. Their schemas are not available here.
CUSTOM = {"ScaledObject", "PodMonitor", "PrometheusRule"}

problems: list[str] = []


def expect(holds: bool, problem: str) -> None:
    if not holds:
        problems.append(problem)


def run(*command: str | Path, text: str | None = None, **environment: str) -> str:
    """Runs a tool. If it fails, its output becomes a problem."""
    done = subprocess.run(
        [str(part) for part in command],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    if done.returncode != 0:
        problems.append(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|s|min|h|d)", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}[unit]


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\btasksync_[a-z0-9_]+|\bprocess_[a-z0-9_]+", expression))


def check_image() -> None:
    run("hadolint", DEPLOY / "docker/Dockerfile")


def check_compose() -> dict:
    text = (DEPLOY / "compose/compose.yaml").read_text()
    for name in re.findall(r"^([A-Z_]+)=", (DEPLOY / "compose/.env.example").read_text(), re.M):
        text = re.sub(r"\$\{" + name + r":\?[^}]*\}", "x" * 24, text)
    expect("${" not in text, "compose.yaml asks for a variable that .env.example does not name")
    merged = yaml.safe_load(text)
    try:
        PyCompose.from_yaml(yaml.safe_dump({k: v for k, v in merged.items() if not k.startswith("x-")}))
    except ValueError as error:
        problems.append(f"compose.yaml: {error}")
    for name, service in merged["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = (DEPLOY / "compose" / source).exists() if source.startswith(".") else source in merged["volumes"]
            expect(known, f"compose.yaml: {name} mounts {source}, which is not there")
    return merged


def rendered(folder: str) -> list[dict]:
    text = run("kubectl", "kustomize", DEPLOY / "kubernetes" / folder)
    documents = [document for document in yaml.safe_load_all(text) if document]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump_all([d for d in documents if d["kind"] not in CUSTOM], file)
        file.flush()
        run("kubernetes-validate", "--strict", "--quiet", file.name)
    return documents


def find(documents: list[dict], kind: str, name: str) -> dict:
    found = [d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name]
    expect(len(found) == 1, f"{len(found)} {kind} named {name}")
    return found[0] if found else {}


def check_kubernetes(settings: dict, metrics: set[str]) -> None:
    base, online = rendered("base"), rendered("overlays/online")
    grace = seconds(settings["worker"]["grace_period"])
    for role in ("scheduler", "worker"):
        pod = find(base, "Deployment", f"tasksync-{role}")["spec"]["template"]["spec"]
        expect(pod["terminationGracePeriodSeconds"] == grace, f"{role}: terminationGracePeriodSeconds is not worker.grace_period")
        container = pod["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        expect(settings["health"]["listen"].endswith(f":{ports['health']}"), f"{role}: health port is not health.listen's")
        if role == "scheduler":
            expect(settings["api"]["listen"].endswith(f":{ports['api']}"), "scheduler: api port is not api.listen's")
    expect("replicas" not in find(online, "Deployment", "tasksync-worker")["spec"], "online: the number of workers is KEDA's")
    scaled = find(online, "ScaledObject", "tasksync-worker")["spec"]
    for trigger in scaled["triggers"]:
        unknown = metrics_in(trigger["metadata"]["query"]) - metrics
        expect(not unknown, f"scaled-object.yaml: unknown metrics {sorted(unknown)}")
    longest = 12 * 60
    down = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"]
    expect(down >= longest, "scaled-object.yaml: scaleDown looks back less than maximum_time_between_user_syncs")
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())
    expect(find(online, "PrometheusRule", "tasksync").get("spec") == rules, "prometheus-rule.yaml is not alerts.yaml: run check.py --write")


def write_rule() -> None:
    """Writes alerts.yaml in the form of the Prometheus operator."""
    rules = (DEPLOY / "prometheus/alerts.yaml").read_text()
    body = "".join(f"  {line}" if line.strip() else line for line in rules[rules.index("groups:") :].splitlines(True))
    (DEPLOY / "kubernetes/overlays/online/prometheus-rule.yaml").write_text(
        "# Made from deploy/prometheus/alerts.yaml by deploy/check/check.py --write; change it there.\n"
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: tasksync\n"
        "  labels: {app.kubernetes.io/name: tasksync}\nspec:\n" + body
    )


def check_alerts(metrics: set[str]) -> None:
    run("promtool", "check", "rules", DEPLOY / "prometheus/alerts.yaml")
    run("promtool", "test", "rules", DEPLOY / "prometheus/alerts_test.yaml")
    rules = [r for g in yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"] for r in g["rules"]]
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yaml").read_text())["tests"]
    raised = {c["alertname"] for t in tests for c in t["alert_rule_test"] if c.get("exp_alerts")}
    quiet = {c["alertname"] for t in tests for c in t["alert_rule_test"] if not c.get("exp_alerts")}
    sections = {line[3:].strip() for line in (DOCS / "runbook.md").read_text().splitlines() if line.startswith("## ")}
    anchors = {re.sub(r"[^a-z0-9 -]", "", section.lower()).replace(" ", "-") for section in sections}
    for rule in rules:
        name = rule["alert"]
        unknown = metrics_in(rule["expr"]) - metrics
        expect(not unknown, f"alert {name}: unknown metrics {sorted(unknown)}")
        expect(name in raised, f"alert {name}: no test raises it")
        expect(name in quiet, f"alert {name}: no test shows it quiet")
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        expect(page == "docs/runbook.md" and anchor in anchors, f"alert {name}: the runbook has no section {anchor}")


def check_dashboard(metrics: set[str]) -> None:
    dashboard = json.loads((DEPLOY / "grafana/tasksync.json").read_text())
    expressions = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]
    expect(len(expressions) > 10, "the dashboard shows hardly anything")
    for expression in expressions:
        unknown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in metrics_in(expression)} - metrics
        expect(not unknown, f"dashboard: unknown metrics {sorted(unknown)} in {expression}")
    # Each expression becomes a rule, so that Prometheus' own parser reads it.
    rules = [
        {"record": f"dashboard:{number}", "expr": expression.replace("$__rate_interval", "5m").replace("$namespace", "x")}
        for number, expression in enumerate(expressions)
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        run("promtool", "check", "rules", "--lint=none", file.name)


def check_brokers(claim_lifetime: float) -> None:
    conf = dict(
        (part.strip() for part in line.split("=", 1))
        for line in (DEPLOY / "rabbitmq/rabbitmq.conf").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    expect(int(conf["consumer_timeout"]) / 1000 > claim_lifetime, "rabbitmq.conf: consumer_timeout must be above schedule.claim_lifetime")
    redis = (DEPLOY / "redis/redis.conf").read_text().splitlines()
    expect("maxmemory-policy noeviction" in redis, "redis.conf: an evicted key is a user who is not synced")


def main() -> int:
    if sys.argv[1:] == ["--write"]:
        write_rule()
        return 0
    tasksync = Path(sys.argv[1]).resolve()
    stores = {
        "TASKSYNC_REGISTRY__URL": "postgres://tasksync:x@postgres:5432/tasksync",
        "TASKSYNC_SCHEDULE__URL": "redis://:x@redis:6379/0",
        "TASKSYNC_QUEUE__URL": "amqp://tasksync:x@rabbitmq:5672/%2f",
    }
    files = [DEPLOY / "kubernetes/base/settings.toml", DEPLOY / "compose/settings.toml"]
    for file in files:
        run(tasksync, "config", "check", file, **stores)
    kubernetes, compose_settings = (tomllib.loads(file.read_text()) for file in files)
    metrics = set(re.findall(r"^\| `([a-z0-9_]+)` \|", run(tasksync, "docs", "metrics"), re.M))
    compose = check_compose()
    for role in ("scheduler", "worker"):
        service = compose["services"][role]
        expect(
            service["stop_grace_period"] == compose_settings["worker"]["grace_period"],
            f"compose.yaml: stop_grace_period of {role} is not worker.grace_period",
        )
    check_image()
    check_kubernetes(kubernetes, metrics)
    check_alerts(metrics)
    check_dashboard(metrics)
    check_brokers(claim_lifetime=120)
    for problem in problems:
        print(f"deploy: {problem}", file=sys.stderr)
    print("deployment files: " + ("not right" if problems else "right"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
