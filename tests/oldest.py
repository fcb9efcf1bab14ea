"""Prints a constraints file with the lowest version of every package that pyproject.toml allows; for make oldest.

python tests/oldest.py [NAME==VERSION ...]    # a version in place of the lowest
"""

import re
import sys
from pathlib import Path

import tomli

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def lowest(dependencies: list[str]) -> dict[str, str]:
    """The version behind each `>=`."""
    found = (re.fullmatch(r"([\w-]+)>=([\w.]+)(?:,<[\w.]+)?", one) for one in dependencies)
    return {match[1]: match[2] for match in found if match}


def main(instead: list[str]) -> None:
    versions = lowest(tomli.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"])
    versions |= dict(one.split("==") for one in instead)
    for name, version in versions.items():
        print(f"{name}=={version}")


if __name__ == "__main__":
    main(sys.argv[1:])
