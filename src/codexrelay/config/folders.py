"""Where the folders that the configuration names are on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from codexrelay.protocol.model_id import FAMILY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.config.settings import Settings

_ON_WINDOWS: Final = os.name == "nt"


def absolute(
    text: str, *, folder: Path | None, environ: Mapping[str, str], windows: bool = _ON_WINDOWS
) -> Path:
    """Return the folder that `text` names.

    A leading `~` is the home folder; a relative path counts from `folder`, None being the working
    directory.

    Raises:
        ValueError: the home folder is meant and unknown.
    """
    parts = Path(text).parts  # none at all for `.`
    if parts[:1] == ("~",):
        homes = _homes(environ, windows=windows)
        if not homes:
            raise ValueError(f"{text!r} is in the home folder, and HOME is not set")
        return homes[0].joinpath(*parts[1:])
    return (folder or Path()).absolute() / text


def legacy_folders(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    instance: str = FAMILY,
    windows: bool = _ON_WINDOWS,
) -> tuple[Path, ...]:
    """Return the folders in which Codex CLI's `auth.json` may be, first choice first.

    `auth_path`, then `CODEX_HOME`, then `.codex` in the home folder: `%USERPROFILE%` on Windows,
    `~` everywhere. An empty `CODEX_HOME` is none. A further instance has its `auth_path` and
    nothing else, for what the environment names is the first one's.

    Raises:
        KeyError: there is no such instance.
    """
    auth_path = dict(settings.backends.family)[instance].auth_path
    named = (auth_path, environ.get("CODEX_HOME") if instance == FAMILY else None)
    folders = [Path(text).absolute() for text in named if text]
    if instance == FAMILY:
        folders += [home / ".codex" for home in _homes(environ, windows=windows)]
    return tuple(dict.fromkeys(folders))


def _homes(environ: Mapping[str, str], *, windows: bool) -> list[Path]:
    variables = ("USERPROFILE", "HOME") if windows else ("HOME",)
    return [Path(environ[name]) for name in variables if environ.get(name)]
