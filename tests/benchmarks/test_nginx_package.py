"""nginx is unpacked once where there is none; apt-get and dpkg-deb are little scripts here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from benchmarks.nginx_package import find_nginx
from benchmarks.subject import MeasurementError

if TYPE_CHECKING:
    from pathlib import Path

#: Notes each of its runs beside the packages that it leaves.
APT_GET = """#!/bin/sh
echo "$*" >> {log}
case "$*" in *download*) {download};; esac
"""
DPKG_DEB = """#!/bin/sh
mkdir -p "$3/usr/sbin"
printf '#!/bin/sh\\n' > "$3/usr/sbin/nginx"
chmod +x "$3/usr/sbin/nginx"
"""


def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, download: str) -> Path:
    """Put programs of our own at the head of the path, and return what apt-get notes."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    for name, text in (
        ("apt-get", APT_GET.format(log=log, download=download)),
        ("dpkg-deb", DPKG_DEB),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return log


def test_the_package_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = machine(tmp_path, monkeypatch, download="touch nginx.deb")
    folder = tmp_path / "nginx"
    found = find_nginx(folder, places="")
    assert found == str(folder / "usr/sbin/nginx")
    assert find_nginx(folder, places="") == found
    assert [line.split()[-2:] for line in log.read_text().splitlines()] == [["download", "nginx"]]


def test_what_cannot_be_fetched_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = machine(tmp_path, monkeypatch, download="echo no network >&2; exit 1")
    with pytest.raises(MeasurementError, match="no network"):
        find_nginx(tmp_path / "nginx", places="")
    asked = log.read_text()
    assert ("update" in asked) is (os.geteuid() == 0)
    with pytest.raises(MeasurementError, match="could not be fetched: no network"):
        find_nginx(tmp_path / "nginx", places="")
    assert log.read_text() == asked


def test_the_machines_own_is_taken_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    own = tmp_path / "nginx"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert find_nginx(tmp_path / "folder") == str(own)


def test_without_the_tools_of_debian_there_is_only_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MeasurementError, match="nginx-light will do"):
        find_nginx(tmp_path / "folder", places="")
