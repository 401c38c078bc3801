"""`python -m benchmarks.samples FOLDER`: make the samples that compression is tried on.

They come from real programs, run in a small project that is made for them, and are written down
without names of this machine. What is not installed is left out.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

_TIMEOUT_S: Final = 180
#: No sample is longer than this: they stand in the repository.
_LONGEST_BYTES: Final = 40_000

_CALC: Final = '''"""Sums."""


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def halve(a: int) -> float:
    """Halve a number."""
    return a / 2
'''
_TESTS: Final = '''"""Tests of sums."""

import unittest

import calc


class Sums(unittest.TestCase):
    def test_halving_an_odd_number_gives_no_whole_one(self):
        self.assertEqual(calc.halve(3), 1)

    def test_adding_texts_is_refused(self):
        calc.add("1", 2)


def _make(number):
    def test(self):
        self.assertEqual(calc.add(number, number), 2 * number)

    return test


for number in range(120):
    setattr(Sums, f"test_adding_{number:03}_to_itself_doubles_it", _make(number))
'''
_NODE_TESTS: Final = """const { test, describe } = require('node:test')
const assert = require('node:assert')

describe('sums', () => {
  for (let n = 0; n < 60; n++) {
    test(`adding ${n} to itself doubles it`, () => assert.equal(n + n, 2 * n))
  }
  test('halving an odd number gives a whole one', () => assert.equal(3 / 2, 1))
})
"""
_RUST: Final = """pub fn add(a: u64, b: u64) -> u64 { a + b }
#[cfg(test)]
mod tests {
    use super::*;
%s
    #[test] fn halving_three() { assert_eq!(3 / 2, 2); }
}
"""
_RUST_TEST: Final = "    #[test] fn adding_%03d() { assert_eq!(add(%d, 1), %d); }"
_MODULE: Final = '''def {name}_{n}(a, b):
    """Do {n}."""
    value = a * {n} + b
    return value


'''
_LOCKED: Final = """    "node_modules/package-{n}": {{
      "version": "1.0.{n}",
      "integrity": "sha512-{n:040x}"
    }},
"""
_MAKEFILE: Final = "OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))\nall: $(OBJECTS)\n"

_PYTEST: Final = "{python} -m pytest -p no:cacheprovider -p no:randomly -c /dev/null --rootdir ."
_RETRIES: Final = """for n in $(seq 150); do
  curl -s http://127.0.0.1:9/ || echo "the shop does not answer yet, trying once more"
done
"""

#: File, folder in the project, command.
_COMMANDS: Final = (
    ("pytest-verbose.txt", "py", f"{_PYTEST} -v ."),
    ("pytest-quiet.txt", "py", f"{_PYTEST} -q ."),
    ("unittest-verbose.txt", "py", "{python} -m unittest -v"),
    ("node-test.txt", "js", "node --test --test-reporter=spec"),
    ("node-test-tap.txt", "js", "node --test --test-reporter=tap"),
    ("cargo-test.txt", "rs", "cargo test --offline"),
    ("make.txt", "c", "make -k"),
    ("git-diff.txt", "repo", "git diff HEAD~1"),
    ("git-diff-lock.txt", "repo", "git diff HEAD~1 -- package-lock.json"),
    ("git-log-patch.txt", "repo", "git log -p --color=always"),
    ("git-log.txt", "repo", "git log"),
    ("git-status.txt", "repo", "git status"),
    ("ls-long.txt", "repo", "ls -lR --time-style=long-iso"),
    ("find.txt", "repo", "find ."),
    ("grep.txt", "repo", "grep -rn def src"),
    ("grep-context.txt", "repo", "grep -rn -C 2 return src"),
    ("pip-install.txt", "py", "{python} -m pip install --no-deps --target installed attrs idna"),
    ("npm-ls.txt", "npm", "npm ls --all"),
    ("retries.txt", "sh", "sh retries.sh"),
    ("json-pretty.txt", "repo", "cat data.json"),
)  # fmt: skip
#: What is run with a terminal before it, for its colours and bars.
_ON_TERMINAL: Final = frozenset({"pytest-verbose.txt", "pip-install.txt"})


def main() -> None:
    """Make all samples that can be made here."""
    into = Path(sys.argv[1])
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="samples-") as folder:
        project = Path(folder)
        _build(project)
        for name, where, command in _COMMANDS:
            words = command.format(python=sys.executable).split()
            if shutil.which(words[0]) is None or not (project / where).is_dir():
                print(f"{name}: left out, {words[0]} is not installed")
                continue
            said = _run(words, project / where, on_terminal=name in _ON_TERMINAL)
            _write(into / name, _neutral(said, folder))
    _write(into / "docker-pull.txt", _docker_pull())
    _write(into / "server.log", _server_log())


def _build(project: Path) -> None:
    """Lay out the project: one folder for each kind of program."""
    _files(project / "py", {"calc.py": _CALC, "test_sums.py": _TESTS})
    _files(project / "js", {"sums.test.js": _NODE_TESTS})
    tests = "\n".join(_RUST_TEST % (n, n, n + 1) for n in range(80))
    manifest = '[package]\nname = "sums"\nversion = "0.1.0"\nedition = "2021"\n'
    _files(project / "rs", {"Cargo.toml": manifest, "src/lib.rs": _RUST % tests})
    sources = {
        f"part{n:02}.c": f"int part{n}(int a) {{ int unused; return a + {n}; }}\n"
        for n in range(30)
    }
    _files(
        project / "c", {"Makefile": _MAKEFILE, **sources, "broken.c": "int broken( { return 1 }\n"}
    )
    _files(project / "sh", {"retries.sh": _RETRIES})
    _repository(project / "repo")
    _packages(project / "npm")


def _repository(folder: Path) -> None:
    modules = {
        f"src/shop/{area}/{name}.py": "".join(_MODULE.format(name=name, n=n) for n in range(14))
        for area in ("basket", "orders", "stock")
        for name in ("model", "views", "storage", "errors")
    }
    lock = "".join(_LOCKED.format(n=n) for n in range(120))
    items = [
        {"id": n, "name": f"item {n}", "tags": ["a", "b"], "price": n + 0.5, "note": "words " * 30}
        for n in range(60)
    ]
    _files(folder, {**modules, "package-lock.json": f"{{\n{lock}}}\n", "README.md": "# Shop\n"})
    _git(folder, "init", "-q")
    _git(folder, "add", ".")
    _git(folder, "commit", "-q", "-m", "Begin the shop")
    changed = {
        name: text.replace("value = a * 3", "value = a * 33").replace("a * 9 ", "a / 9 ")
        for name, text in modules.items()
        if "views" in name or "model" in name
    }
    _files(folder, {**changed, "package-lock.json": f"{{\n{lock.replace('1.0.', '1.1.')}}}\n"})
    (folder / "logo.png").write_bytes(bytes(range(256)) * 8)
    _git(folder, "add", ".")
    _git(folder, "commit", "-q", "-m", "Halve some values")
    cache = {f"node_modules/package-{n}/index.js": "module.exports = 1\n" for n in range(60)}
    _files(folder, {**cache, "data.json": f"{json.dumps(items, indent=4)}\n"})


def _packages(folder: Path) -> None:
    """Lay out installed packages that need each other, without asking a registry for any."""
    names = [f"package-{n}" for n in range(24)]
    needs = {name: dict.fromkeys(names[at + 1 : at + 6], "1.0.0") for at, name in enumerate(names)}
    for name in names:
        dependencies = "{" + ", ".join(f'"{other}": "1.0.0"' for other in needs[name]) + "}"
        manifest = f'{{"name": "{name}", "version": "1.0.0", "dependencies": {dependencies}}}'
        _files(folder / "node_modules" / name, {"package.json": manifest})
    wanted = ", ".join(f'"{name}": "1.0.0"' for name in names[:8])
    _files(
        folder,
        {"package.json": f'{{"name": "shop", "version": "1.0.0", "dependencies": {{{wanted}}}}}'},
    )


def _files(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def _environment() -> dict[str, str]:
    date = "2026-01-05T10:00:00+0000"
    names = ("AUTHOR", "COMMITTER")
    return {
        **{
            key: os.environ[key]
            for key in ("PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME")
            if key in os.environ
        },
        **{f"GIT_{name}_NAME": "Dev" for name in names},
        **{f"GIT_{name}_EMAIL": "dev@example.com" for name in names},
        **{f"GIT_{name}_DATE": date for name in names},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_PAGER": "cat",
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm-256color",
        "COLUMNS": "100",
    }


def _git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, env=_environment(), check=True, capture_output=True)


def _run(words: list[str], folder: Path, *, on_terminal: bool) -> str:
    """Return what a program says, errors among the rest, as a shell tool hands it on."""
    if not on_terminal:
        done = subprocess.run(
            words, cwd=folder, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            check=False, timeout=_TIMEOUT_S,
        )  # fmt: skip
        return done.stdout.decode("utf-8", "replace")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        words, cwd=folder, env=_environment(), stdout=theirs, stderr=theirs
    ) as child:
        os.close(theirs)
        said = b"".join(_read(ours))
        child.wait(_TIMEOUT_S)
    os.close(ours)
    return said.decode("utf-8", "replace")


def _read(descriptor: int) -> list[bytes]:
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(descriptor, 65_536)
        except OSError:  # the other side of a terminal has gone
            return pieces
        if not piece:
            return pieces
        pieces.append(piece)


def _neutral(said: str, project: str) -> str:
    """Leave out what is this machine's: folders, people, hosts, addresses of registries."""
    said = said.replace(project, "/srv/shop").replace(f"/private{project}", "/srv/shop")
    said = said.replace(str(Path(sys.prefix)), "/srv/venv").replace(
        str(Path(sys.base_prefix)), "/usr"
    )
    said = said.replace(str(Path.home()), "/home/dev")
    # Where the packages come from is said in many ways, and is nobody's business.
    said = re.sub(r"[^\r\n]*(?:Looking in |Location 'file:)[^\n]*\n", "", said)
    said = re.sub(r"(Processing )\S+/", r"\1/packages/", said)
    said = re.sub(r"https?://[^\s'\",)]+", "https://packages.example/simple", said)
    return re.sub(r"(^|\n)([-dl][rwx-]{9} +\d+) \S+ +\S+ ", r"\1\2 dev dev ", said)


def _write(path: Path, text: str) -> None:
    cut = text.encode("utf-8", "replace")[:_LONGEST_BYTES].decode("utf-8", "ignore")
    path.write_bytes(cut.encode())
    print(f"{path.name}: {len(cut.encode()):,} bytes")


def _docker_pull() -> str:
    """Return what `docker pull` writes where it sees no terminal, and a build's steps after it."""
    layers = [f"{n:012x}" for n in range(0xA1B2C3D4E5F6, 0xA1B2C3D4E5F6 + 8)]
    lines = ["Using default tag: latest", "latest: Pulling from library/shop"]
    for layer in layers:
        lines += [f"{layer}: Pulling fs layer", f"{layer}: Waiting"]
    for percent in range(0, 100, 4):
        bar = "=" * (percent // 2) + ">" + " " * (50 - percent // 2)
        lines += [f"{layer}: Downloading [{bar}] {percent / 10:.1f}MB/10MB" for layer in layers]
    lines += [f"{layer}: Pull complete" for layer in layers]
    lines += ["Digest: sha256:" + "ab" * 32, "Status: Downloaded newer image for shop:latest"]
    lines += [f"#{n} [stage {n}/6] RUN step {n}" for n in range(1, 7)]
    lines += ['ERROR: failed to solve: process "/bin/sh -c make" did not complete: exit code: 2']
    return "\n".join(lines) + "\n"


def _server_log() -> str:
    """Return the log of a service: requests, heartbeats, a few warnings, one traceback."""
    lines = []
    for n in range(400):
        at = f"2026-01-05T10:{n // 60:02}:{n % 60:02}.{n % 1000:03}Z"
        lines.append(
            f"{at} INFO  [worker-{n % 4}] GET /items/{n * 7} 200 in {n % 13} ms id={n * 7919:08x}"
        )
        if n % 5 == 0:
            lines.append(f"{at} DEBUG [health] still alive")
        if n % 90 == 1:
            lines.append(f"{at} WARN  [pool] connection {n} was idle for 30 s, closing it")
        if n in (123, 321):
            lines += [
                f"{at} ERROR [worker-3] request {n} failed",
                "Traceback (most recent call last):",
                '  File "/srv/shop/app.py", line 41, in handle',
                "    return self.views[name](request)",
                "KeyError: 'basket'",
            ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
