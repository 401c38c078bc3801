"""Installing programs, with a pretended npm that writes files."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import attrs
import pytest

from harness.compat.drivers.driver import NpmProgram, PythonProgram
from harness.compat.drivers.droid import Droid
from harness.compat.drivers.openai_sdk import OpenAISdk
from harness.compat.drivers.pi import Pi
from harness.compat.install import (
    TRIES,
    NotInstalledError,
    UnreachableError,
    agents_folder,
    ensure,
    find_all,
    npm_error,
    npm_platform,
)

#: A program that python runs, so that it starts wherever the tests do.
PROGRAM = NpmProgram(
    package="@maker/tool-{platform}",
    version="1.2.3",
    paths=("tool/newest.py", "tool/older.py"),
    runtime=(sys.executable,),
)


@attrs.define
class PretendedNpm:
    """Writes the given scripts, after failing as often as told."""

    files: dict[str, str]
    fail: int = 0
    error: NotInstalledError = attrs.field(
        factory=lambda: NotInstalledError("the registry is away")
    )
    asked: list[str] = attrs.field(factory=list)

    def __call__(self, spec: str, folder: Path) -> None:
        self.asked.append(spec)
        if len(self.asked) <= self.fail:
            raise self.error
        for name, content in self.files.items():
            path = folder / "node_modules" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


def test_a_program_is_installed_by_name_and_version_for_this_machine(tmp_path: Path) -> None:
    npm = PretendedNpm({"tool/newest.py": "print('tool 1.2.3')"})
    command = ensure(PROGRAM, folder=tmp_path / "tool-1.2.3", npm=npm)
    assert npm.asked == [f"@maker/tool-{npm_platform()}@1.2.3"]
    assert command == (
        sys.executable,
        str(tmp_path / "tool-1.2.3" / "node_modules" / "tool" / "newest.py"),
    )


def test_a_program_that_is_there_is_not_installed_again(tmp_path: Path) -> None:
    npm = PretendedNpm({"tool/newest.py": "print('1.2.3')"})
    first = ensure(PROGRAM, folder=tmp_path / "tool", npm=npm)
    assert ensure(PROGRAM, folder=tmp_path / "tool", npm=npm) == first
    assert len(npm.asked) == 1


def test_a_program_whose_file_is_gone_is_installed_again(tmp_path: Path) -> None:
    npm = PretendedNpm({"tool/newest.py": "print('1.2.3')"})
    command = ensure(PROGRAM, folder=tmp_path / "tool", npm=npm)
    Path(command[-1]).unlink()
    assert ensure(PROGRAM, folder=tmp_path / "tool", npm=npm) == command


def test_an_installation_may_succeed_at_the_third_try(tmp_path: Path) -> None:
    npm = PretendedNpm({"tool/newest.py": "print('1.2.3')"}, fail=TRIES - 1)
    ensure(PROGRAM, folder=tmp_path / "tool", npm=npm)
    assert len(npm.asked) == TRIES == 3


def test_after_three_tries_the_program_is_missing_and_the_reason_is_told(tmp_path: Path) -> None:
    npm = PretendedNpm({}, fail=TRIES)
    with pytest.raises(NotInstalledError, match=r"1\.2\.3, after 3 tries: the registry is away"):
        ensure(PROGRAM, folder=tmp_path / "tool", npm=npm)


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (UnreachableError("the network is away"), [TRIES, 1]),
        (NotInstalledError("no such version"), [TRIES, TRIES]),
    ],
    ids=["network", "package"],
)
def test_without_a_network_the_programs_after_the_first_get_one_try_each(
    tmp_path: Path, error: NotInstalledError, tries: list[int]
) -> None:
    npm = PretendedNpm({}, fail=99, error=error)
    found, missing = find_all([Droid(), Pi()], folder=tmp_path, npm=npm)
    assert found == {}
    assert list(Counter(npm.asked).values()) == tries
    assert f"{tries[1]} tr" in missing["pi"]
    assert error.reason in missing["pi"]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("code ENOTFOUND\nnpm error syscall getaddrinfo", UnreachableError),
        ("code EAI_AGAIN", UnreachableError),
        ("code ECONNREFUSED", UnreachableError),
        ("code FETCH_ERROR\nnpm error errno FETCH_ERROR", UnreachableError),
        ("code ETARGET\nnpm error notarget No matching version", NotInstalledError),
        ("code E404\nnpm error 404 ENOTFOUND@1.0.0 is not there", NotInstalledError),
    ],
    ids=lambda words: str(words).split("\n")[0],
)
def test_npms_error_code_tells_the_network_from_the_package(
    words: str, kind: type[NotInstalledError]
) -> None:
    error = npm_error(1, f"npm error {words}\n")
    assert type(error) is kind
    assert words.partition("\n")[0] in error.reason


def test_the_first_file_that_starts_is_used(tmp_path: Path) -> None:
    npm = PretendedNpm(
        {"tool/newest.py": "raise SystemExit(132)", "tool/older.py": "print('1.2.3')"}
    )
    assert ensure(PROGRAM, folder=tmp_path / "tool", npm=npm)[-1].endswith("older.py")


def test_another_version_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    npm = PretendedNpm({"tool/newest.py": "print('1.2.4')"})
    with pytest.raises(NotInstalledError, match=r"newest\.py says '1\.2\.4'"):
        ensure(PROGRAM, folder=tmp_path / "tool", npm=npm)


def test_a_package_without_a_program_for_this_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError, match=npm_platform()):
        ensure(PROGRAM, folder=tmp_path / "tool", npm=PretendedNpm({}))


def test_half_a_note_of_an_earlier_run_is_no_installation(tmp_path: Path) -> None:
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "ready.json").write_text(json.dumps(["node"])[:4])
    npm = PretendedNpm({"tool/newest.py": "print('1.2.3')"})
    ensure(PROGRAM, folder=tmp_path / "tool", npm=npm)
    assert len(npm.asked) == 1


def test_a_script_of_ours_runs_isolated_in_this_interpreter(tmp_path: Path) -> None:
    found, missing = find_all([OpenAISdk()], folder=tmp_path, npm=PretendedNpm({}))
    assert missing == {}
    assert found["sdk"][:2] == (sys.executable, "-I")


def test_a_library_that_is_not_installed_is_named(tmp_path: Path) -> None:
    class Driver(OpenAISdk):
        program = PythonProgram(distribution="no-such-library", script=Path("x.py"))

    found, missing = find_all([Driver()], folder=tmp_path, npm=PretendedNpm({}))
    assert found == {}
    assert missing == {"sdk": "the Python package no-such-library is not installed"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CACHE_HOME": os.sep + "cache"}, Path(os.sep, "cache")),
        ({}, Path.home() / ".cache"),
        ({"XDG_CACHE_HOME": ""}, Path.home() / ".cache"),
    ],
    ids=["set", "unset", "empty"],
)
def test_programs_are_kept_in_the_cache_folder(environ: dict[str, str], expected: Path) -> None:
    assert agents_folder(environ) == expected / "codexrelay" / "agents"
