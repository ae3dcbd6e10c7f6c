"""Checks the deployment files and what must agree between them. See check.sh."""

import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import yaml
from compose_spec import PyCompose

from facts import read_facts
from faults import check_faults
from image import check_compose_image, check_image
from manifests import check_kubernetes
from page import check_page
from problems import DEPLOY, expect, metrics_in, problems, run, seconds

DOCS = DEPLOY.parent / "docs"


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


def check_unit() -> None:
    """The systemd unit fits the defaults of the settings and the example that docs/install.md installs with it."""
    unit = dict(
        line.split("=", 1)
        for line in (DEPLOY / "systemd/tasksync@.service").read_text().splitlines()
        if re.match(r"[A-Z]\w+=", line)
    )
    grace = re.search(r"^\| `worker\.grace_period` \| `\"(\w+)\"` \|", (DOCS / "settings.md").read_text(), re.M).group(1)
    expect(seconds(unit["TimeoutStopSec"]) >= seconds(grace), "tasksync@.service: TimeoutStopSec is below worker.grace_period")
    settings = tomllib.loads((DEPLOY / "tasksync/examples/settings.toml").read_text())
    registry = settings["registry"]["url"].removeprefix("sqlite:")
    state = f"/var/lib/{unit['StateDirectory']}/"
    expect(registry.startswith(state), f"tasksync@.service: the registry of settings.toml is outside {state}")


def check_agreements(facts: dict) -> Iterator[str]:
    """What the image, compose, the Kubernetes files and their page must agree on. Runs nothing."""
    yield from check_image(facts["image"])
    yield from check_compose_image(facts)
    yield from check_kubernetes(facts)
    yield from check_page(facts)


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
    folders = ("kubernetes/base", "kubernetes/overlays/example", "compose")
    files = [DEPLOY / folder / "settings.toml" for folder in folders]
    for file in files:
        run(tasksync, "config", "check", "--skip-files", file, **stores)
    compose_settings = tomllib.loads(files[-1].read_text())
    metrics = set(re.findall(r"^\| `([a-z0-9_]+)` \|", run(tasksync, "docs", "metrics"), re.M))
    compose = check_compose()
    for role in ("scheduler", "worker"):
        service = compose["services"][role]
        expect(
            service["stop_grace_period"] == compose_settings["worker"]["grace_period"],
            f"compose.yaml: stop_grace_period of {role} is not worker.grace_period",
        )
    for recipe in ("Dockerfile", "Containerfile"):
        run("hadolint", DEPLOY / "docker" / recipe)
    facts = read_facts(tasksync, metrics)
    problems.extend(check_agreements(facts))
    problems.extend(check_faults(facts, check_agreements))
    check_alerts(metrics)
    check_dashboard(metrics)
    check_brokers(claim_lifetime=120)
    check_unit()
    for problem in problems:
        print(f"deploy: {problem}", file=sys.stderr)
    print("deployment files: " + ("not right" if problems else "right"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
