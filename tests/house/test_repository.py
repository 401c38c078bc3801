"""The repository keeps its own promises: what it names, what it must not name, what it pins."""

from __future__ import annotations

import itertools
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import codexrelay

ROOT = Path(__file__).parents[2]
#: Spelt so that it does not match itself.
REGISTRY = re.compile(
    r"registry[.][a-z]|py[p]i[.]org|python[h]osted|/[s]imple/|index[-]url|[d]eb +https?:"
)
PIN = re.compile(r"[A-Za-z0-9_.-]+==[^;\s]+(; python_version (<|>=) \"[\d.]+\")?$")


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout, so there is no list of the repository's files")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def readable(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def test_no_file_names_a_package_registry() -> None:
    assert [path for path in tracked_files() if REGISTRY.search(readable(path))] == []


@pytest.mark.parametrize(
    "parts", [("py", "pi.org"), ("registry", ".npmjs"), ("/sim", "ple/"), ("index", "-url")]
)
def test_the_names_of_package_registries_are_known(parts: tuple[str, str]) -> None:
    assert REGISTRY.search("".join(parts))


def test_every_dependency_is_pinned() -> None:
    lines = readable(ROOT / "constraints.txt").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pins if not PIN.match(line)] == []
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in pins}
    project = tomllib.loads(readable(ROOT / "pyproject.toml"))
    wanted = [
        *project["project"]["dependencies"],
        *itertools.chain(*project["dependency-groups"].values()),
    ]
    names = {re.match(r"[A-Za-z0-9_.-]+", each)[0].lower() for each in wanted}  # type: ignore[index]
    assert names - pinned == set()


def test_the_version_stands_in_one_piece() -> None:
    project = tomllib.loads(readable(ROOT / "pyproject.toml"))
    assert project["project"]["version"] == codexrelay.__version__


def test_the_readme_names_the_two_commands_and_the_makefile_has_them() -> None:
    readme, makefile = readable(ROOT / "README.md"), readable(ROOT / "Makefile")
    for target in ("demo", "test", "check", "compat", "stress", "bench", "serve", "clean"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        assert f"make {target}" in readme, target


def test_every_link_inside_the_documents_leads_somewhere() -> None:
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "benchmarks/README.md"):
        text = readable(ROOT / document)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (ROOT / document).parent.joinpath(target).exists(), (document, target)
