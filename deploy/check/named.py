"""Checks that what the pages name exists: settings, keys of tenants, variables, commands with their flags, error codes,
metrics and alerts. The generated pages say what exists; a test of the program compares those with the code. See links.py.
"""

import re
from pathlib import Path

# Crates, whose names look like metrics.
CRATES = {"tasksync_common", "tasksync_scheduler", "tasksync_worker", "tasksync_loadtest"}
# Variables that are not settings.
VARIABLES = {"TASKSYNC_TOKEN", "TASKSYNC_TOKEN_FILE", "TASKSYNC_CONFIG", "TASKSYNC_URL"}
# Words that stand for a name or for the rest of a command.
WORDS_OF_PLACE = re.compile(r"^(?:[A-Z][A-Z0-9_-]*|[<{\[].*|…|\.\.\.)$")

CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^\s*(```|~~~)\s*(\w*)")
KEBAB = re.compile(r"^[a-z]+(?:-[a-z0-9]+)+$")
# Where a command line of tasksync begins: at the start, after variables, in a chain, or inside a container.
PROGRAM = re.compile(r"(?:^|[A-Z_]+=\S+ |&& |; |\| |\bexec [\w-]+ |-- )(tasksync\s.*)")
METRIC = re.compile(r"\btasksync_[a-z0-9_]+\b")
ALERT = re.compile(r"\bTasksync[A-Z][A-Za-z]+\b")
VARIABLE = re.compile(r"\bTASKSYNC_[A-Z0-9_]+\b")


class Known:
    """What exists, read from the generated pages and the alert rules."""

    def __init__(self, root: Path):
        text = {page: (root / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in
                ("settings", "tenant", "commands", "errors", "doctor", "metrics", "api")}
        self.settings = set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", text["settings"], re.M))
        self.tenant = tenant_keys(text["tenant"])
        self.sections = {key.split(".")[0] for key in self.settings | self.tenant}
        self.commands = commands(text["commands"])
        self.errors = set(re.findall(r"^## ([a-z0-9-]+)$", text["errors"], re.M))
        self.metrics = set(re.findall(r"^\| `([a-z0-9_]+)` \|", text["metrics"], re.M))
        rules = (root / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8")
        self.alerts = set(re.findall(r"^\s*- alert: (\w+)", rules, re.M))
        # Other words with hyphens that the program itself uses: checks, values of settings, names of commands.
        own = set(re.findall(r"^## ([a-z0-9-]+)$", text["doctor"], re.M))
        for page in text.values():
            own.update(word.strip('"') for word in CODE.findall(page))
        own.update(word for name in self.commands for word in name.split())
        self.words = {word for word in own if KEBAB.match(word)} | self.errors
        self.first_words = {code.split("-")[0] for code in self.errors if "-" in code}

    def complete(self) -> list[str]:
        """What could not be read, which would make every check pass."""
        parts = {"settings": self.settings, "tenant": self.tenant, "commands": self.commands, "errors": self.errors,
                 "metrics": self.metrics, "alerts": self.alerts}
        return [f"no {name} were found" for name, found in parts.items() if len(found) < 10]


def tenant_keys(page: str) -> set[str]:
    keys: set[str] = set()
    places: list[str] = []
    for line in page.splitlines():
        if line.startswith("## "):
            places = re.findall(r"`\[([a-z_.]+)\]`", line) or [""]
        elif found := re.match(r"^\| `([a-z_]+)` \|", line):
            keys.update(f"{place}.{found.group(1)}" for place in places if place)
    return keys


def commands(page: str) -> dict[str, str]:
    """Each command with its help."""
    parts = re.split(r"^## (tasksync.*)$", page, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def split_words(line: str) -> list[str]:
    """The words of a command line, without what follows a pipe, a redirection or a comment."""
    line = re.sub(r"'[^']*'|\"[^\"]*\"", "TEXT", line)
    line = re.split(r"\s[|>&#]|;|\s2>", line)[0]
    return line.replace("\\", " ").split()


def check_command(known: Known, line: str) -> str | None:
    """Returns what is wrong with a command line that begins with `tasksync`."""
    words = split_words(line)
    name, rest, flags = "tasksync", [], []
    inside = words[1:]
    while inside:
        word = inside.pop(0)
        if word.startswith("-"):
            flags.append(word.split("=")[0].rstrip(".,;:)"))
            # Of the flags that stand before the command, only --url has a value.
            if name == "tasksync" and word == "--url":
                inside[:1] = []
        elif not rest and f"{name} {word}" in known.commands:
            name = f"{name} {word}"
        else:
            rest.append(word)
    help_text = known.commands.get(name)
    if help_text is None:
        return "there is no such program"
    is_group = "\nCommands:\n" in help_text
    if is_group and rest and not WORDS_OF_PLACE.match(rest[0]):
        return f"`{name}` has no command {rest[0]}"
    for flag in flags:
        if not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", help_text) and flag not in ("--version", "-V", "--"):
            return f"`{name}` has no flag {flag}"
    return None


def command_lines(lines: list[str]) -> list[tuple[int, str]]:
    """The command lines of a page, with their numbers: of code blocks, and in backticks."""
    found: list[tuple[int, str]] = []
    fence, block = False, ""
    held: tuple[int, str] | None = None
    for number, line in enumerate(lines, 1):
        if mark := FENCE.match(line):
            fence, block = not fence, mark.group(2)
            continue
        if fence:
            if block not in ("console", "sh", "bash"):
                continue
            text = held[1] + " " + line.strip() if held else line.strip().removeprefix("$ ").removeprefix("sudo ")
            start = held[0] if held else number
            held = (start, text.removesuffix("\\")) if text.endswith("\\") else None
            if not held and (program := PROGRAM.search(text)):
                found.append((start, program.group(1).strip()))
        else:
            found += [(number, code) for code in CODE.findall(line) if code.startswith("tasksync ")]
    # Code in backticks may go over the end of a line.
    for number, (line, after) in enumerate(zip(lines, lines[1:]), 1):
        if line.count("`") % 2 and after.count("`") % 2:
            code = line.rsplit("`", 1)[1] + " " + after.split("`", 1)[0].strip()
            if code.startswith("tasksync "):
                found.append((number, code))
    return found


def check_page(known: Known, text: str) -> list[tuple[int, str]]:
    """Returns the names in a page that do not exist, with their lines."""
    problems: list[tuple[int, str]] = []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        for code in CODE.findall(line):
            key = code.split(" ")[0].split("=")[0]
            if re.fullmatch(r"[a-z_]+\.[a-z_]+", key) and key.split(".")[0] in known.sections:
                if key not in known.settings and key not in known.tenant and not re.search(r"\.(toml|md|rs|sqlite)$", key):
                    problems.append((number, f"there is no setting {key}"))
            elif KEBAB.match(code) and code.split("-")[0] in known.first_words and code not in known.words:
                problems.append((number, f"there is no error, check or value {code}"))
        for metric in METRIC.findall(line):
            name = re.sub(r"_(bucket|sum|count)$", "", metric)
            if not {metric, name} & known.metrics and metric not in CRATES:
                problems.append((number, f"there is no metric {metric}"))
        for alert in ALERT.findall(line):
            if alert not in known.alerts:
                problems.append((number, f"there is no alert {alert}"))
        for variable in VARIABLE.findall(line):
            key = variable.removeprefix("TASKSYNC_").lower().replace("__", ".")
            if "__" in variable and key not in known.settings:
                problems.append((number, f"there is no setting for the variable {variable}"))
    for number, command in command_lines(lines):
        if problem := check_command(known, command):
            problems.append((number, f"{command}: {problem}"))
    return problems


# One wrong name of each kind in each line, and a right one before it.
WRONG = """\
The settings `worker.users_at_once` and `worker.users_at_twice`.
The keys `policy.conflicts` and `policy.conflict`.
The codes `exchange-busy` and `exchange-lazy`.
The metrics `tasksync_leader` and `tasksync_follower`.
The alerts TasksyncNoWork and TasksyncNoPlay.
`TASKSYNC_WORKER__USERS_AT_ONCE` and `TASKSYNC_WORKER__USERS_AT_TWICE`.
Run `tasksync user status TENANT USER`, not `tasksync user fate TENANT USER`.
Run `tasksync status --tenant TENANT`, not `tasksync status --landlord TENANT`.
```console
$ tasksync --url https://any.example status
$ tasksync state
$ tasksync user opt-in contoso ana --source-login 'a b' \\
    --mailbag ana@contoso.example
```
"""
WRONG_LINES = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]


def check(root: Path, pages: list[Path]) -> list[str]:
    """Returns what the pages name that does not exist. Fails also if the check itself would find nothing."""
    known = Known(root)
    problems = known.complete()
    found = [number for number, _ in sorted(check_page(known, WRONG))]
    if found != WRONG_LINES:
        problems.append(f"the check of names finds the wrong names of lines {found} of its example, not {WRONG_LINES}")
    for page in pages:
        text = page.read_text(encoding="utf-8")
        problems += [f"{page.relative_to(root)}:{number}: {problem}" for number, problem in check_page(known, text)]
    return problems
