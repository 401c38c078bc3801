"""Bodies beside a cassette: large ones lie in files of their own, in a folder named after it.

A file's name tells its content, so that none is ever changed: a cassette that is on the disk stays
right while the next one is being written, and files that nobody names any more are removed last.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path
from typing import Final

import attrs

from codexrelay.accounts.files import make_folder, replace_file

#: A body that is larger lies beside the cassette.
INSIDE_BYTES: Final = 256 * 1024
_SUFFIX: Final = ".bodies"
_DIGITS: Final = 16
#: Bodies, and bodies that are being written.
_OURS: Final = (".bin", ".tmp")
#: What a cassette may name: one folder beside itself and one plain file in it.
_PATH: Final = re.compile(
    r"(?P<folder>[^/\\:\x00-\x1f]+\.bodies)/(?P<file>\w[\w.-]*\.bin)", re.ASCII
)


class BesideError(Exception):
    """A body that should lie beside the cassette cannot be had."""


@attrs.define(eq=False)
class Beside:
    """The files beside one cassette."""

    #: The cassette.
    path: Path
    _named: set[str] = attrs.field(factory=set)

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.path.with_name(self.path.name + _SUFFIX)

    def keep(self, name: str, body: bytes) -> str | None:
        """Write a large body into a file, once, and return its path from the cassette's folder.

        None: the body is small and belongs inside, or the cassette has a name that no system but
        this one takes (`a:b.yaml`). The file is there, whole, when this returns.

        Raises:
            OSError: it cannot be written.
        """
        if len(body) <= INSIDE_BYTES:
            return None
        file = f"{name}-{hashlib.sha256(body).hexdigest()[:_DIGITS]}.bin"
        path = f"{self.folder.name}/{file}"
        if _PATH.fullmatch(path) is None:
            return None
        self._named.add(file)
        target = self.folder / file
        if not _is_there(target, len(body)):
            make_folder(self.folder)
            replace_file(target, body)
        return path

    def remove_others(self) -> None:
        """Remove the files that `keep` did not name. Call it when the cassette is on the disk.

        Half-written ones go as well, which somebody who was killed has left.
        """
        with contextlib.suppress(OSError):  # no folder; or the next one who writes will see to it
            for file in self.folder.iterdir():
                if file.suffix in _OURS and file.name not in self._named:
                    file.unlink()
            self.folder.rmdir()  # stays if there is anything in it


def read(folder: Path | None, path: str, *, size_bytes: int, sha256: str) -> bytes:
    """Return the body that a cassette in `folder` says lies at `path`.

    Raises:
        BesideError: the path leads elsewhere, or the file is not the one that was written.
    """
    if _PATH.fullmatch(path) is None:
        raise BesideError("is no path to a body beside the cassette (NAME.yaml.bodies/FILE.bin)")
    if folder is None:
        raise BesideError("the body lies in a file, and it is not known beside which cassette")
    file = folder / path
    try:
        if not file.resolve().is_relative_to(folder.resolve()):
            raise BesideError("leads out of the cassette's folder")
        if not file.is_file():
            raise BesideError("there is no such file")
        if file.stat().st_size != size_bytes:
            raise BesideError(f"the file is {file.stat().st_size} bytes long, not {size_bytes}")
        body = file.read_bytes()
    except OSError as error:
        raise BesideError(f"the file cannot be read ({error.strerror})") from None
    if hashlib.sha256(body).hexdigest() != sha256:
        raise BesideError("the file is not the one that was written (its SHA-256 differs)")
    return body


def _is_there(target: Path, size_bytes: int) -> bool:
    with contextlib.suppress(OSError):
        return target.stat().st_size == size_bytes
    return False
