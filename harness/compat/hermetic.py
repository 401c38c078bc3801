"""Cuts this process, and all it starts, off from every network but its own loopback (Linux).

A process may give itself a network of its own in which nothing but `lo` exists. It needs a user
namespace of its own for that, which some systems do not allow, so a child tries it first: one that
fails in the middle is of no further use. `python -m harness.compat.hermetic` is that child.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final, Literal, TypeAlias

if sys.platform != "win32":
    import fcntl

#: What `--hermetic` says.
Sealing: TypeAlias = Literal["never", "auto", "always"]
#: The exit status of a run that was to be sealed and could not be, as test programs say "skipped".
SKIPPED: Final = 77

_NEW_USER: Final = 0x10000000
_NEW_NETWORK: Final = 0x40000000
_GET_FLAGS: Final = 0x8913
_SET_FLAGS: Final = 0x8914
_UP: Final = 0x1
_LOOPBACK: Final = "lo"
_PATIENCE_S: Final = 20


class CannotSealError(Exception):
    """This system does not allow it; the text says why."""


def is_sealed() -> bool:
    """Tell whether nothing but loopback can be reached."""
    return [name for _, name in socket.if_nameindex()] == [_LOOPBACK]


def why_not() -> str | None:
    """Return why this system does not allow it; None if it does."""
    if sys.platform != "linux":
        return "only Linux has network namespaces"
    probe = subprocess.run(
        (sys.executable, "-m", "harness.compat.hermetic"),
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
        cwd=Path(__file__).parents[2],
    )
    if probe.returncode == 0:
        return None
    lines = probe.stderr.strip().splitlines()
    return lines[-1] if lines else f"the attempt ended with {probe.returncode}"


def seal() -> None:
    """Cut this process off. It keeps its user id, and what it starts has no special rights.

    Raises:
        CannotSealError: the system does not allow it. Then this process may be half-way: ask
            `why_not` first.
    """
    if sys.platform != "linux":
        raise CannotSealError("only Linux has network namespaces")
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
        raise CannotSealError(f"unshare: {os.strerror(ctypes.get_errno())}")
    try:
        itself = Path("/proc/self")
        (itself / "setgroups").write_text("deny")
        (itself / "uid_map").write_text(f"{user} {user} 1")
        (itself / "gid_map").write_text(f"{group} {group} 1")
        _bring_up(_LOOPBACK)
    except OSError as error:
        raise CannotSealError(f"the namespace is of no use: {error}") from None
    if not is_sealed():
        raise CannotSealError("there is more than loopback in the new namespace")


def _bring_up(interface: str) -> None:
    """Switch a network interface on.

    Raises:
        OSError: that is not allowed.
    """
    assert sys.platform == "linux"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        # struct ifreq: 16 bytes of name, then the flags in a union of 24 bytes.
        request = struct.pack("16sh22x", interface.encode(), 0)
        answer = fcntl.ioctl(any_socket, _GET_FLAGS, request)
        (flags,) = struct.unpack_from("h", answer, 16)
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh22x", interface.encode(), flags | _UP))


if __name__ == "__main__":
    try:
        seal()
    except CannotSealError as error:
        sys.exit(str(error))
