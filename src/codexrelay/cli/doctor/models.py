"""The list of models that the relay starts with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.cli.doctor.finding import ok, warn
from codexrelay.server.models import read_known

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.cli.doctor.finding import Finding
    from codexrelay.cli.doctor.site import Site

_ABOUT: Final = "models"
_SOURCES: Final = {
    "cache": "the backend's last list is kept",
    "file": "the list that model_catalog.fallback_path names is used until the backend gives one",
    "packaged": "the list that comes with codexrelay is used until the backend gives one",
}


def check(site: Site) -> Iterator[Finding]:
    """Read the list as the relay does when it starts."""
    problems: list[str] = []
    known = read_known(site.settings, problems.append).models
    for problem in problems:
        yield warn(_ABOUT, problem, "correct the file, or delete it")
    told = _SOURCES.get(known.source, known.source)
    yield ok(_ABOUT, f"{told} ({len(known.entries)} models)")
