"""Runs tools and collects what is wrong."""

import os
import re
import subprocess
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent.parent
PROJECT = DEPLOY.parent

problems: list[str] = []


def expect(holds: bool, problem: str) -> None:
    if not holds:
        problems.append(problem)


def run(*command: str | Path, text: str | None = None, **environment: str) -> str:
    """Runs a tool and returns what it prints. If it fails, its output becomes a problem."""
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
