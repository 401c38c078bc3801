"""Installing programs, with a pretended npm that writes files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import attrs
import pytest

from harness.compat.drivers.driver import NpmProgram, PythonProgram
from harness.compat.drivers.openai_sdk import OpenAISdk
from harness.compat.install import (
    TRIES,
    NotInstalledError,
    agents_folder,
    ensure,
    find_all,
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
    asked: list[str] = attrs.field(factory=list)

    def __call__(self, spec: str, folder: Path) -> None:
        self.asked.append(spec)
        if len(self.asked) <= self.fail:
            raise NotInstalledError("the registry is away")
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
    found, missing = find_all([OpenAISdk()], folder=tmp_path)
    assert missing == {}
    assert found["sdk"][:2] == (sys.executable, "-I")


def test_a_library_that_is_not_installed_is_named(tmp_path: Path) -> None:
    class Driver(OpenAISdk):
        program = PythonProgram(distribution="no-such-library", script=Path("x.py"))

    found, missing = find_all([Driver()], folder=tmp_path)
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
