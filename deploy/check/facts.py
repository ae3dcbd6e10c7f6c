"""Reads everything that the checks of the image, the Kubernetes files and their page look at."""

import re
import shutil
import tempfile
import tomllib
from pathlib import Path

import yaml

from image import read_image
from page import addresses
from problems import DEPLOY, PROJECT, run

KUBERNETES = DEPLOY / "kubernetes"
#: Kinds that a cluster has only after an operator is installed. Their schemas are not available here.
CUSTOM = {"ScaledObject", "PodMonitor", "PrometheusRule"}
#: The default of secrets.folder.
SECRETS_FOLDER = "/run/secrets/tenants"


def rendered(folder: Path) -> list[dict]:
    """The objects of a folder, each valid against its schema."""
    text = run("kubectl", "kustomize", folder)
    documents = [document for document in yaml.safe_load_all(text) if document]
    validate(documents)
    return documents


def validate(documents: list[dict]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump_all([d for d in documents if d["kind"] not in CUSTOM], file)
        file.flush()
        run("kubernetes-validate", "--strict", "--quiet", file.name)


def everything() -> list[dict]:
    """The example with every line that is commented out, as the page tells to use it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "kubernetes"
        shutil.copytree(KUBERNETES, copy)
        file = copy / "overlays/example/kustomization.yaml"
        text = re.sub(r"^( *)# ((?:  )?- \S+.*|patches:)$", r"\1\2", file.read_text(), flags=re.M)
        file.write_text(text.replace("  - ../../base\n", ""))
        return rendered(file.parent)


def references(documents: list[dict]) -> tuple[set[str], set[str]]:
    """The Secrets and ConfigMaps that pods name and that no object here is: all, and those a pod cannot start without."""
    named: set[str] = set()
    required: set[str] = set()

    def walk(value: object) -> None:
        if isinstance(value, list):
            for part in value:
                walk(part)
        elif isinstance(value, dict):
            for key, part in value.items():
                if key in ("secretRef", "configMapRef", "secretKeyRef", "secret", "configMap") and isinstance(part, dict):
                    name = part.get("secretName") or part.get("name")
                    named.add(name)
                    if not part.get("optional"):
                        required.add(name)
                if key == "imagePullSecrets":
                    named.update(entry["name"] for entry in part)
                if key == "tls":
                    named.update(entry["secretName"] for entry in part)
                walk(part)

    walk(documents)
    own = {document["metadata"]["name"] for document in documents if document["kind"] in ("ConfigMap", "Secret")}
    return named - own, required - own


def read_facts(tasksync: Path, metrics: set[str]) -> dict:
    documents = {name: rendered(KUBERNETES / name) for name in ("base", "overlays/online", "overlays/example", "trial-stores")}
    documents["everything"] = everything()
    secrets = [d for d in yaml.safe_load_all((KUBERNETES / "base/secrets.example.yaml").read_text()) if d]
    validate(secrets)
    example = yaml.safe_load((KUBERNETES / "overlays/example/kustomization.yaml").read_text())["images"][0]
    image = f"{example['newName']}:{example['newTag']}"
    page = (PROJECT / "docs/kubernetes.md").read_text()
    keys = {secret["metadata"]["name"]: set(secret["stringData"]) for secret in secrets}
    settings_page = run(tasksync, "docs", "settings")
    folder = re.search(r"^\| `secrets\.folder` \| `\"(.+?)\"`", settings_page, re.M)
    all_documents = [document for objects in documents.values() for document in objects]
    referenced, _ = references(all_documents)
    _, required = references(documents["base"])
    return {
        "documents": documents,
        "image": read_image(),
        "images": {"base": None, "overlays/online": None, "overlays/example": image, "everything": image},
        "version": tomllib.loads((PROJECT / "Cargo.toml").read_text())["workspace"]["package"]["version"],
        "metrics": metrics,
        "alerts": yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text()),
        "secrets_folder": folder.group(1) if folder else SECRETS_FOLDER,
        "keys": {**keys, "tasksync-settings": {"settings.toml"}, "tasksync-authorities": {"ca.pem"}},
        "addresses": addresses(page, (KUBERNETES / "base/secrets.example.yaml").read_text()),
        "referenced": referenced,
        "required": required,
        "texts": {
            "page": page,
            "online": (KUBERNETES / "overlays/online/kustomization.yaml").read_text(),
            "policies": (KUBERNETES / "base/network-policy.yaml").read_text(),
            "makefile": (PROJECT / "Makefile").read_text(),
        },
        "compose": yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text()),
    }
