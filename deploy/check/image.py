"""The image: what its two recipes have in common, and what the build needs."""

import re
from pathlib import Path

from problems import DEPLOY, PROJECT


def instructions(file: Path) -> list[tuple[str, str]]:
    """The instructions of the last stage, without comments and with continued lines joined."""
    lines = [line for line in file.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    parts = [(line.split(None, 1)[0].upper(), line.split(None, 1)[1]) for line in joined]
    last = max(number for number, (name, _) in enumerate(parts) if name == "FROM")
    return parts[last:]


def read_image() -> dict:
    """What the checks look at."""
    recipes = {name: instructions(DEPLOY / "docker" / name) for name in ("Dockerfile", "Containerfile")}
    text = (DEPLOY / "docker/Dockerfile").read_text()
    copied = {part for line in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.M) for part in line.split()}
    ignore = (DEPLOY / "docker/Dockerfile.dockerignore").read_text()
    included = []
    for crate in ("common", "scheduler", "worker", "deploy/tasksync"):
        for source in sorted((PROJECT / crate / "src").rglob("*.rs")):
            # Tests may include what the image's build does not have.
            product = source.read_text().split("#[cfg(test)]\nmod ")[0]
            for name in re.findall(r"include_(?:str|bytes)!\(\s*\"([^\"]+)\"", product):
                included.append((source.parent / name).resolve().relative_to(PROJECT).as_posix())
    return {
        "recipes": recipes,
        "copied": copied,
        "sent": set(re.findall(r"^!(\S+)$", ignore, re.M)),
        "included": included,
    }


def shared(recipe: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What both recipes must have in common: everything from the working directory on."""
    first = next((number for number, (name, _) in enumerate(recipe) if name == "WORKDIR"), 0)
    return recipe[first:]


def variables(image: dict) -> dict[str, str]:
    """The environment variables of the image."""
    words = [word for name, value in image["recipes"]["Dockerfile"] if name == "ENV" for word in value.split()]
    return dict(word.split("=", 1) for word in words)


def user(image: dict) -> int:
    return int(next(value for name, value in image["recipes"]["Dockerfile"] if name == "USER").split(":")[0])


def ports(image: dict) -> dict[str, int]:
    """The ports on which the image's processes listen, by their part."""
    environment = variables(image)
    return {part: int(environment[f"TASKSYNC_{part.upper()}__LISTEN"].rsplit(":", 1)[1]) for part in ("api", "health")}


def check_image(image: dict):
    one, other = (shared(recipe) for recipe in image["recipes"].values())
    if one != other:
        yield f"image: Dockerfile and Containerfile differ: {sorted(set(one) ^ set(other))}"
    for part in ("api", "health"):
        address = variables(image).get(f"TASKSYNC_{part.upper()}__LISTEN", "127.0.0.1:0")
        if address.rsplit(":", 1)[0] not in ("0.0.0.0", "[::]"):
            yield f"image: {part}.listen is {address}, which is not reached from outside the container"
            return
    exposed = [int(port) for name, value in one if name == "EXPOSE" for port in value.split()]
    if sorted(exposed) != sorted(ports(image).values()):
        yield f"image: EXPOSE {exposed} is not what it listens on"
    if user(image) == 0:
        yield "image: it runs as root"
    if image["copied"] != image["sent"]:
        yield f"image: Dockerfile copies what .dockerignore does not send: {sorted(image['copied'] ^ image['sent'])}"
    for path in image["included"]:
        if not any(path == copied or path.startswith(f"{copied}/") for copied in image["copied"]):
            yield f"image: the build includes {path}, which the Dockerfile does not copy"


def check_compose_image(facts: dict):
    """compose.yaml uses the image as it is."""
    for role in ("scheduler", "worker"):
        service = facts["compose"]["services"][role]
        if any(name.endswith("__LISTEN") for name in service["environment"]):
            yield f"compose.yaml: {role} sets where it listens, which the image does"
        if not {int(port) for port in service["expose"]} <= set(ports(facts["image"]).values()):
            yield f"compose.yaml: {role} exposes a port on which the image does not listen"
        if f"./secrets:{facts['secrets_folder']}:ro" not in service["volumes"]:
            yield f"compose.yaml: {role} does not mount ./secrets at secrets.folder, {facts['secrets_folder']}"
