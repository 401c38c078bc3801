"""The configuration: does it load, and what would the relay warn of?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from codexrelay.accounts.files import why_open_to_others
from codexrelay.cli.doctor.finding import broken, ok, warn
from codexrelay.config.keys import path_of
from codexrelay.config.loading import CONFIG_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from codexrelay.cli.doctor.finding import Finding
    from codexrelay.config.loading import Loaded
    from codexrelay.config.settings import Settings
    from codexrelay.errors import Problem


def file_of(config_path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file, None if no file is named."""
    if config_path is not None:
        return config_path
    named = environ.get(CONFIG_VARIABLE)
    return None if named is None else Path(named)


def unusable(problems: Iterable[Problem], file: Path | None) -> Iterator[Finding]:
    """Yield everything that keeps the relay from starting."""
    again = "" if file is None else f"; then: codexrelay config check {shlex.quote(str(file))}"
    for problem in problems:
        yield broken("configuration", str(problem), f"correct it{again}")
    yield warn(
        "configuration",
        "nothing else was looked at: it is not known what the relay would use",
        "once it is correct: codexrelay doctor",
    )


def loads(loaded: Loaded, file: Path | None) -> Iterator[Finding]:
    """Yield what there is to say about a configuration that can be used."""
    yield ok(
        "configuration",
        "no file is named, so defaults and the environment count"
        if file is None
        else f"{file} can be used",
    )
    for warning in loaded.warnings:
        yield warn("configuration", str(warning), f"change {warning.where} if you did not mean it")
    secrets = " and ".join(_secrets_of(loaded.settings))
    if file is not None and secrets and (why := why_open_to_others(file)):
        told, _, mend = why.partition(": ")
        yield warn("configuration", f"{file} holds {secrets} and {told}", mend)


def _secrets_of(settings: Settings) -> Iterator[str]:
    """Yield which secrets a configuration holds, in words."""
    if settings.server.client_keys:
        yield "client keys"
    for name, codex in settings.backends.family:
        if codex.proxy is not None and "@" in codex.proxy:
            yield f"a proxy's password ({'.'.join(path_of(name))}.proxy)"
            break  # further blocks have it from the first one, or are as secret
    for name, block in settings.backends.others:
        if block.headers:
            yield f"headers ({'.'.join(path_of(name))}.headers)"
        for key, url in (("api_base_url", block.api_base_url), ("proxy", block.proxy)):
            if url is not None and "@" in url:
                yield f"a password ({'.'.join(path_of(name))}.{key})"
