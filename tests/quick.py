"""Prints the test files that go with what has changed since main, or in the last commit: `make quick` runs them.

A file of tests goes with itself, a module with the tests that import it or are named after it, and anything else with
the tests that read it.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
READ = {".md": "tests/test_docs.py", ".toml": "tests/test_edits.py", ".json": "tests/test_answers.py"}
"""Which tests read the pages, the manifests and the schema."""


def git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def changed() -> list[str]:
    """Files that are not as they were where this branch left main; on main, before the last commit."""
    (base,) = git("merge-base", "HEAD", "main")
    base = "HEAD~1" if [base] == git("rev-parse", "HEAD") else base
    return [*git("diff", "--name-only", base), *git("ls-files", "--others", "--exclude-standard")]


def tests_of(path: str, tests: dict[str, str]) -> list[str]:
    """The test files that go with a file, by their texts."""
    if path in tests:
        return [path]
    if not path.startswith("timecli/") or not path.endswith(".py"):
        found = READ.get(Path(path).suffix)
        return [found] if found in tests else []
    *room, name = path.removesuffix(".py").split("/")
    package = re.escape(".".join(room))
    imported = re.compile(rf"from {package} import [^\n]*\b{name}\b|\b{package}\.{name}\b")
    return [test for test, text in tests.items() if test == f"tests/test_{name}.py" or imported.search(text)]


def main() -> None:
    tests = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(ROOT.glob("tests/test_*.py"))}
    found = [tests_of(path, tests) for path in sorted(changed(), key=lambda path: path not in tests)]
    print(*dict.fromkeys(test for own in found for test in own) or ["tests/test_docs.py"])


if __name__ == "__main__":
    main()
