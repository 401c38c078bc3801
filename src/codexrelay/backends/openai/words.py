"""What a fault of a backend of another kind means for its owner, added to the backend's own words.

There are many such servers, and they say the same things in many ways. What they said always stands
first; behind it, in brackets, stands which key of the configuration to look at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol import too_long
from codexrelay.protocol.faults import Fault, FaultKind, error_words

if TYPE_CHECKING:
    from codexrelay.backends.openai.place import Place
    from codexrelay.protocol.raw import JsonObject

_NO_PATH: Final = frozenset({404, 405, 501})
_REDIRECTS: Final = range(300, 400)
_NO_MODEL: Final = "model_not_found"
_NO_MODEL_CODES: Final = frozenset({_NO_MODEL, "invalid_model", "model_not_available"})

#: A model that is not there, where the status alone does not say what is not.
_UNKNOWN_MODEL: Final = re.compile(
    r"""
    \bmodel\b .{0,200}? (?: not\ found | does\ not\ exist | doesn't\ exist | not\ (?:been\ )?loaded
                          | not\ a\ valid\ model | is\ not\ supported | is\ not\ available )
    | (?: unknown | invalid | no\ such | unsupported )\ model\b
    | not\ a\ valid\ model\ id
    | no\ models?\ (?: is\ | are\ )? loaded
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_SAYS_MODEL: Final = re.compile(r"\bmodel\b", re.IGNORECASE)
_VERSION_AT_END: Final = re.compile(r"/v\d+[a-z0-9]*(?:/openai)?/?$")


def explained(fault: Fault, status: int, place: Place, *, url: str) -> Fault:
    """Return the fault of an answer that is not 2xx, with what its owner can do about it.

    Args:
        fault: as the classes that all backends share have it.
        status: of the answer.
        place: of the backend.
        url: its base URL, without a login.
    """
    if status in _REDIRECTS:
        told = f"redirects are not followed: write the address into {place.key('api_base_url')}"
        return _with_hint(fault, f"{told} that it leads to")
    if is_too_long(fault):
        return attrs.evolve(
            fault, kind=FaultKind.REFUSED, status=400, error=fault.error | {"code": too_long.CODE}
        )
    match fault.kind:
        case FaultKind.UNAUTHORIZED:
            return _with_hint(fault, _about_key(place))
        case FaultKind.FORBIDDEN if place.has_key:
            return _with_hint(fault, f"backend {place.name}; its key is of {place.key_told}")
        case FaultKind.FORBIDDEN:
            return _with_hint(fault, f"backend {place.name}, to which no key was sent")
        case FaultKind.REFUSED | FaultKind.UNSUPPORTED if _is_of_the_model(fault, status):
            named: JsonObject = {"code": fault.code or _NO_MODEL, "param": "model"}
            return attrs.evolve(fault, kind=FaultKind.UNSUPPORTED, error=fault.error | named)
        case FaultKind.REFUSED | FaultKind.OVERLOADED if status in _NO_PATH:
            # Nobody's request is at fault, so a route goes on with its next backend.
            hint = f"{url}: {_about_path(place, url)}"
            return _with_hint(attrs.evolve(fault, kind=FaultKind.UNSUPPORTED), hint)
        case _:
            return fault


def is_too_long(fault: Fault) -> bool:
    """Tell whether the request does not fit into the model's context, whatever the server says."""
    if fault.code == too_long.CODE:
        return True
    # A rate in tokens has words like these, but waiting helps there.
    if fault.kind not in (FaultKind.REFUSED, FaultKind.OVERLOADED):
        return False
    return too_long.says_too_long(error_words(fault.error))


def unreachable(why: str, place: Place, *, url: str) -> str:
    """Return what is told when the backend cannot be reached."""
    told = f"backend {place.name} cannot be reached at {url}: {why}"
    if "certificate" in why.lower():
        return f"{told}; {place.key('ca_file')} can name further certificates to trust"
    if "proxy" in why.lower():
        return f"{told}; {place.key('proxy')} can name another proxy, or none"
    return f"{told}; does it run, and is {place.key('api_base_url')} right?"


def _about_key(place: Place) -> str:
    if place.has_key:
        return f"backend {place.name} does not take the key of {place.key_told}"
    return f"backend {place.name} wants an API key; {place.key_told} can name one"


def _about_path(place: Place, url: str) -> str:
    if _VERSION_AT_END.search(url) is None:
        return (
            f"{place.key('api_base_url')} mostly ends with /v1; if that is right, "
            f"{_about_wire(place)}"
        )
    return _about_wire(place)


def _about_wire(place: Place) -> str:
    path, other = (
        ("/chat/completions", "responses") if place.wire == "chat" else ("/responses", "chat")
    )
    return f"if it has no {path}, {place.key('wire')} must be {other}"


def _is_of_the_model(fault: Fault, status: int) -> bool:
    if fault.kind is FaultKind.UNSUPPORTED or {fault.code, fault.type} & _NO_MODEL_CODES:
        return True
    words = _SAYS_MODEL if status == 404 else _UNKNOWN_MODEL
    return words.search(fault.message) is not None


def _with_hint(fault: Fault, hint: str) -> Fault:
    message = f"{fault.message} ({hint})"
    return attrs.evolve(fault, error=fault.error | {"message": message})
