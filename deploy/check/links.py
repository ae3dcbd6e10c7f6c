"""Checks the Markdown pages of the repository: every relative link leads to a file, every anchor to a heading, and every
decision record has its form, its place in the list and tests that exist. Checks with named.py that every setting,
command, error code, metric and alert that a page names exists. Needs nothing but Python."""

import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # No folder beside the sources.
import named  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = ROOT / "docs/decisions"
# Pages whose backticked test names, types and paths must exist.
NAMING = [ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "docs/glossary.md"]
SKIPPED = {".git", "target", "reports", "node_modules", ".venv"}
RECORD_LINES = 10
COLUMNS = 120

HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^()\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
EXPLICIT_ANCHOR = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"")
# The name of a test: at least four words.
TEST_NAME = re.compile(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+){3,})`")
# A type by its crate and path, such as `common::state::Link`.
TYPE = re.compile(r"`(common|scheduler|worker|loadtest)::(?:[a-z_]+::)*([A-Z][A-Za-z]*)`")
PATH = re.compile(r"`((?:common|scheduler|worker|loadtest|deploy|docs|\.ci)/[A-Za-z0-9_./-]+)`")

problems: list[str] = []


def files(ending: str) -> list[Path]:
    found = ROOT.rglob(f"*{ending}")
    return sorted(path for path in found if not SKIPPED & set(path.relative_to(ROOT).parts) and path.is_file())


def prose(page: Path) -> list[tuple[int, str]]:
    """The lines of a page outside code blocks, with their numbers."""
    lines, fenced = [], False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if named.FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            lines.append((number, line))
    return lines


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"[`*]", "", text).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    found: set[str] = set()
    seen: dict[str, int] = {}
    for _, line in prose(page):
        found.update(EXPLICIT_ANCHOR.findall(line))
        heading = HEADING.match(line)
        if heading:
            anchor = slug(heading.group(1))
            count = seen.get(anchor, 0)
            seen[anchor] = count + 1
            found.add(f"{anchor}-{count}" if count else anchor)
    return found


def check_links(pages: list[Path]) -> int:
    known: dict[Path, set[str]] = {}
    links = 0
    for page in pages:
        # Links may go over the end of a line; the text is joined and the line found again by its offset.
        lines = prose(page)
        text = "\n".join(re.sub(r"`[^`]*`", lambda code: "`" * len(code.group()), line) for _, line in lines)
        for match in LINK.finditer(text):
            target = match.group(1)
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            links += 1
            where = f"{page.relative_to(ROOT)}:{lines[text.count(chr(10), 0, match.start())][0]}"
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists():
                problems.append(f"{where}: {target}: there is no such file")
            elif anchor and file.suffix == ".md":
                if anchor not in known.setdefault(file, anchors(file)):
                    problems.append(f"{where}: {target}: there is no such heading")
    return links


def check_names(pages: list[Path]) -> None:
    functions: set[str] = set()
    types: set[tuple[str, str]] = set()
    for source in files(".rs"):
        text = source.read_text(encoding="utf-8")
        functions.update(re.findall(r"\bfn ([a-z][a-z0-9_]*)", text))
        crate = source.relative_to(ROOT).parts[0]
        types.update((crate, name) for name in re.findall(r"\b(?:struct|enum|trait|type) ([A-Z][A-Za-z]*)", text))
    # Settings and metrics have names of the same form.
    other = "\n".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("settings.md", "metrics.md"))
    for page in pages:
        for number, line in prose(page):
            where = f"{page.relative_to(ROOT)}:{number}"
            for name in TEST_NAME.findall(line):
                if name not in functions and name not in other:
                    problems.append(f"{where}: there is no test or function {name}")
            for crate, name in TYPE.findall(line):
                if (crate, name) not in types:
                    problems.append(f"{where}: {crate} has no type {name}")
            for path in PATH.findall(line):
                if not (ROOT / path).exists():
                    problems.append(f"{where}: there is no {path}")


def check_records(records: list[Path]) -> None:
    listed = re.findall(r"^(\d+)\. \[(.+)\]\((.+)\)$", (DECISIONS / "README.md").read_text(encoding="utf-8"), re.M)
    expected = []
    for number, record in enumerate(records, 1):
        lines = record.read_text(encoding="utf-8").splitlines()
        heading = re.fullmatch(r"# (\d+)\. (.+)", lines[0])
        name = record.relative_to(ROOT)
        if not heading or int(heading.group(1)) != number or not record.name.startswith(f"{number:04d}-"):
            problems.append(f"{name}: the number of file and title must be {number}")
            continue
        expected.append((str(number), heading.group(2), record.name))
        if len(lines) > RECORD_LINES:
            problems.append(f"{name}: {len(lines)} lines, at most {RECORD_LINES}")
        if any(len(line) >= COLUMNS for line in lines):
            problems.append(f"{name}: a line of {COLUMNS} columns or more")
        parts = [match.group(1) for line in lines if (match := re.match(r"- \*\*(\w+)\.\*\* ", line))]
        if parts != ["Context", "Decision", "Consequence", "Test"]:
            problems.append(f"{name}: the parts must be Context, Decision, Consequence and Test")
    if listed != expected:
        wrong = sorted(set(listed) ^ set(expected))
        problems.append(f"docs/decisions/README.md: the list is not that of the records: {wrong[:3]}")


def main() -> int:
    pages = files(".md")
    records = sorted(DECISIONS.glob("[0-9]*.md"))
    links = check_links(pages)
    check_names([page for page in NAMING if page.exists()] + records)
    check_records(records)
    # Records and the changelog also name what was there once.
    history = [*records, ROOT / "CHANGELOG.md"]
    problems.extend(named.check(ROOT, [page for page in pages if page not in history]))
    for problem in problems:
        print(f"links: {problem}", file=sys.stderr)
    print(f"{len(pages)} pages, {links} relative links, {len(records)} decisions: " + ("not right" if problems else "right"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
