"""Whether a browser that is opened here would be seen by the person who asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_WINDOW_SYSTEMS: Final = ("DISPLAY", "WAYLAND_DISPLAY")
_REMOTE: Final = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")
#: They open windows without a variable that says where.
_ALWAYS_WINDOWS: Final = ("win32", "darwin", "cygwin")


def why_no_display(environ: Mapping[str, str], *, platform: str) -> str | None:
    """Say why no browser can be shown here, None if one can. `platform` is `sys.platform`."""
    if any(environ.get(name) for name in _WINDOW_SYSTEMS):
        return None
    if any(environ.get(name) for name in _REMOTE):
        return "you are connected over SSH"
    if platform in _ALWAYS_WINDOWS:
        return None
    return "there is no display here (DISPLAY and WAYLAND_DISPLAY are not set)"
