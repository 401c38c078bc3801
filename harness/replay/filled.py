"""Whether a request is one whose recording has filler in the place of its texts.

A cassette of a repository keeps the forms and lengths of what programs say, not the words
(`harness.secrecy.texts`). The program itself still says them. Its request fits if all that was kept
is the same, and every text is as the recorded one wherever that has no filler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.protocol.raw import is_object, parse
from harness.replay.varying import StandIns
from harness.secrecy.texts import filler_for

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json

#: What a name of one run may have become, such as that of a temporary folder.
_FILLER: Final = "x0_"


def fits(recorded: Json, asked: Json, *, key: str = "") -> bool:
    """Tell whether `asked` is what `recorded` was before its texts were filled.

    What varies from run to run does not count; `key` is where both stand.
    """
    match recorded, asked:
        case dict(), dict():
            return recorded.keys() == asked.keys() and all(
                fits(recorded[name], asked[name], key=name) for name in recorded
            )
        case list(), list():
            return len(recorded) == len(asked) and all(
                fits(one, other, key=key) for one, other in zip(recorded, asked, strict=True)
            )
        case str(), str():
            return _text_fits(recorded, asked, key=key)
        case _:
            return StandIns().value(recorded, key=key) == StandIns().value(asked, key=key)


def _text_fits(recorded: str, asked: str, *, key: str) -> bool:
    if StandIns().value(recorded, key=key) == StandIns().value(asked, key=key):
        return True
    if recorded.startswith("{") and asked.startswith("{"):
        there, here = _parsed(recorded), _parsed(asked)
        if is_object(there) and is_object(here):
            return fits(there, here, key=key)
    if len(recorded) != len(asked):
        return False
    filled = filler_for(asked)
    return all(
        was in (now, filler) or (was in _FILLER and (now.isalnum() or now == "_"))
        for was, now, filler in zip(recorded, asked, filled, strict=True)
    )


def _parsed(text: str) -> Json:
    try:
        return parse(text)
    except ValueError:
        return None
