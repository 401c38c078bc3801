"""Commands: what is run, and whether it runs tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.compaction.commands import command_of, runs_tests, shows_files

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json


@pytest.mark.parametrize(
    "command",
    [
        "pytest",
        "pytest -q tests/test_a.py::test_b",
        ".venv/bin/pytest -x",
        "python -m pytest -q",
        ".venv/bin/python3.11 -m unittest discover",
        "python -W error -m pytest",
        "python manage.py test app",
        "cd /work && FOO=1 BAR=2 timeout 60 pytest -q 2>&1 | tail -5",
        "uv run pytest",
        "uv run --frozen pytest",
        "poetry run pytest",
        "coverage run -m pytest",
        "tox -e py311",
        "npm test",
        "npm t",
        "npm run test",
        "npm run test:unit -- --watch=false",
        "npm --silent test",
        "yarn test",
        "yarn jest src",
        "pnpm run tests",
        "bun test",
        "npx jest src",
        "npx --yes vitest run",
        "cargo test --workspace",
        "cargo +nightly nextest run",
        "go test ./...",
        "dotnet test",
        "mix test",
        "make test",
        "make -j4 check",
        "just test",
        "mvn -q test",
        "./gradlew :app:test",
        "gradle check",
        "bundle exec rspec",
        "rake spec",
        "node --test",
        "(cd web; npm test)",
        "echo hi\nnpm test",
        "npm ci;npm test",
    ],
)
def test_a_command_that_runs_tests_is_known(command: str) -> None:
    assert runs_tests(command)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "cat pytest.ini",
        "sed -n 1,80p tests/test_a.py",
        "grep -rn pytest src",
        "rg 'npm test' README.md",
        "echo 'a; pytest'",
        'git commit -m "x && npm test"',
        "cat > run.sh <<'EOF'\npytest\nEOF",
        "pip install pytest",
        "npm install jest",
        "npm run testserver",
        "npm run build",
        "cargo build",
        "go build ./...",
        "go vet ./...",
        "make testdata",
        "pytest-watch",
        "test -f a.py",
        "ls tests",
        "tox.sh",
        "docker run test",
    ],
)
def test_a_command_that_only_names_a_test_runner_is_none(command: str) -> None:
    assert not runs_tests(command)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ({"command": "ls"}, "ls"),
        ({"cmd": "ls"}, "ls"),
        ({"command": ["ls", "-l"]}, "ls -l"),
        ({"command": ["bash", "-lc", "ls | wc"]}, "ls | wc"),
        ({"command": ["/usr/bin/zsh", "-c", "ls"]}, "ls"),
        ({"command": ["pwsh", "-Command", "dir"]}, "dir"),
        ({"command": ["bash", "run.sh"]}, "bash run.sh"),
        ({"command": 'bash -lc "ls | wc"'}, "ls | wc"),
        ({"commands": ["ls", "pwd"]}, "ls\npwd"),
        ({"command": ["ls", 1, None]}, "ls"),
        ({"command": 7}, None),
        ({}, None),
        ("ls", None),
        (None, None),
    ],
)
def test_the_shell_around_a_command_is_taken_off(arguments: Json, command: str | None) -> None:
    assert command_of(arguments) == command


def test_no_command_takes_long_to_look_at() -> None:
    # Each would take minutes with a pattern that tries all ways to divide it.
    for odd in ("a=b " * 2_000, "-x " * 4_000, "/" * 8_000, "env " * 3_000 + "!", "'" * 9_001):
        assert not runs_tests(odd)
        assert not runs_tests("uv run " + odd)
        assert not runs_tests("gradle " + odd)
        assert not runs_tests("python " + odd)
    assert not runs_tests("python " + "-W -Wa -X a " * 1_000)


@pytest.mark.parametrize(
    "command",
    [
        "cat a.py",
        "ls -la && cat a.py",
        "cat a.py; make",
        "sed -n '1,5p;10,20p' a.py",
        "sed '5q' a.py",
        "/bin/cat a.py 2>&1 | head -n 50",
        "nl -ba a.py | sed -n '1,80p'",
        "awk 'NR >= 10 && NR <= 20' a.py",
        "git show HEAD~1:src/a.py",
        "git --no-pager cat-file -p HEAD:a.py",
        "for f in *.py; do cat $f; done",
        "rg -l word | xargs -n 1 cat",
        "find . -name '*.py' -exec cat {} +",
        "sudo cat /etc/hosts",
        "(cd src; cat a.py)",
        "cat a.py; tail app.log",
        "cat src/http.err.go",
        "Get-Content a.ps1",
    ],
)
def test_a_command_shows_files(command: str) -> None:
    assert shows_files(command)


@pytest.mark.parametrize(
    "command",
    [
        "make 2>&1 | tail -n 50",
        "cat a.py | python",
        "cat a.json | jq .",
        "tail -n 100 'server 1.log'",
        "cat build.log.1 | grep error",
        "sed -i s/a/b/ a.py",
        "cat > a.py <<'EOF'\ncat b.py\nEOF",
        "git show HEAD --stat",
        "git log | cat",
        "echo 'x; cat a.py'",
        "find . -name cat",
        "rg -n cat .",
        "",
    ],
)
def test_a_command_shows_no_files(command: str) -> None:
    assert not shows_files(command)
