"""What we know of the programs that call us, one file each.

A *profile* says how its program is recognised, where it names its sessions, which capabilities it
needs by default, which *adaptations* it offers (off unless its user switches them on), and which
*hints* its user should be given. Its facts, with their sources, stand in its module's docstring;
versions of a program never matter. Each module exposes one `PROFILE`; a new file here is a new
profile, covered by the package's conformance test as soon as there are recordings of its program.

Profiles know values and the protocols: no clock, no files, no network.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING

from codexrelay.profiles.profile import Kind, tool_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.profiles.profile import Profile
    from codexrelay.protocol.raw import JsonObject


def find_profiles() -> Mapping[str, Profile]:
    """Return the profiles by name, those that know most of a program first."""
    return {profile.name: profile for kind in Kind for profile in _of_kind(kind)}


def recognise(headers: Mapping[str, str], body: JsonObject) -> Profile:
    """Return the profile of the program that sent a request. Header names are lower-case.

    What the headers say comes first. A program that they do not name is known by its tools; only
    then its library counts, because programs that are built on one send its headers too. Whatever
    the body holds, this raises nothing.
    """
    for profile in _of_kind(Kind.PROGRAM):
        if profile.named(headers):
            return profile
    if names := tool_names(body):
        # Of two programs whose tools are all there, the one that has more of them.
        fitting = [
            (len(armed.names), profile)
            for profile in _of_kind(Kind.PROGRAM)
            for armed in profile.armed
            if armed.fits(headers, names)
        ]
        if fitting:
            return max(fitting, key=lambda found: found[0])[1]
    for kind in (Kind.LIBRARY, Kind.ANY):
        for profile in _of_kind(kind):
            if profile.named(headers):
                return profile
    raise AssertionError("the profile of every program is gone")


@functools.cache
def _of_kind(kind: Kind) -> tuple[Profile, ...]:
    modules = (
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
        if found.name != "profile"
    )
    found: list[Profile] = [module.PROFILE for module in modules]
    return tuple(profile for profile in found if profile.kind is kind)
