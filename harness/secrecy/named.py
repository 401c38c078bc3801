"""Secrets that what stands before them tells: a name, an address, an option of a command."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Words in tokens that somebody made up for a test or a manual.
_MADE_UP: Final = re.compile(
    rb"example|test|fake|dummy|made-?up|placeholder|redacted|your|sample|secret|simulat|relay|xxxx"
    rb"|0123|1234|abcd|token|random|letters|client|some[-_]|(.)\1{5}",
    re.IGNORECASE,
)
#: Fields that hold nothing else, and those whose names only sound like it.
_SURE_NAME: Final = re.compile(
    rb"(?i:(?:access|refresh|id|session|auth)_?token|client_secret|password|passwd|authorization"
    rb"|cookie|set-cookie|code_verifier|device_auth_id|user_code|authorization_code|x-api-key"
    rb"|api[_-]?key)"
)
#: The last word of a telling name.
_WORDS: Final = (
    *(b"token", b"secret", b"password", b"passwd", b"passphrase", b"api_key", b"api-key"),
    *(b"apikey", b"access_key", b"authorization", b"auth", b"cookie", b"code_verifier"),
    *(b"device_auth_id", b"user_code", b"authorization_code"),
)
#: Behind the name: of a field of JSON; of a header, YAML, TOML, a line of code or of an `.env`; of
#: a part of a form; of an option.
_FIELD: Final = re.compile(rb"[\"']\s*:\s*[\"']([^\"'\\\r\n]{8,})")
_ASSIGNED: Final = re.compile(
    rb"[\"']?\]?[ \t]{0,4}(?::|:?=)[ \t]{0,4}([\"']?)([^\s\"'`\\&,;<>(){}\[\]]{8,4096})(?![(\[{])"
)
_PART: Final = re.compile(rb"\"(?:\r?\n[^\r\n]+)?\r?\n\r?\n([^\r\n]{8,})(?=\r?\n--)")
_OPTION: Final = re.compile(rb"(?:=| +)[\"']?([^\s\"'`\\&,;<>(){}\[\]]{8,})")
_NAME: Final = re.compile(rb"(?<=[\"'])[\w-]+\Z")
_BARE_NAME: Final = re.compile(rb"[\w-]+\Z")
_LONGEST_NAME: Final = 64
#: What a program finds in its environment. Their names are loud enough for a short text to count.
_VARIABLE: Final = re.compile(
    rb"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|_PASS|_PWD|CREDENTIALS?|_AUTH|_PAT)="
    rb"[\"']?([^\s\"'`\\;]{6,})"
)
_VARIABLE_NAME: Final = re.compile(rb"(?<![A-Za-z0-9_])[A-Z][A-Z0-9_]*\Z")
_VARIABLES: Final = (
    *(b"KEY=", b"TOKEN=", b"SECRET=", b"PASSWORD=", b"PASSWD=", b"PASSPHRASE=", b"_PASS="),
    *(b"_PWD=", b"CREDENTIAL=", b"CREDENTIALS=", b"_AUTH=", b"_PAT="),
)
_PARAMETER: Final = re.compile(
    rb"(?<![\w-])(?i:(?:access_|refresh_|id_|subject_)?token|code|code_verifier|state|sig|signature"
    rb"|client_secret|password|api_?key|key|device_code|user_code|assertion|x-amz-signature"
    rb"|x-amz-security-token)=([^&\s\"'<>\\]{8,})"
)
_PARAMETERS: Final = (
    *(b"token=", b"access_token=", b"refresh_token=", b"id_token=", b"subject_token=", b"code="),
    *(b"code_verifier=", b"state=", b"client_secret=", b"password=", b"apikey=", b"api_key="),
    *(b"key=", b"device_code=", b"user_code=", b"assertion=", b"sig=", b"signature="),
    *(b"x-amz-signature=", b"x-amz-security-token="),
)
#: `https://user:password@host`, and a token alone before the `@`.
_IN_URL: Final = re.compile(
    rb"://(?:[^\s/:@\"'`\\<>]{0,64}:([^\s/@\"'`\\<>]{4,})|([^\s/:@\"'`\\<>]{20,}))@(?=[\w\[])"
)
_COOKIE_LINE: Final = re.compile(rb"cookie: ?([^\r\n\"'\\]{8,})", re.IGNORECASE)
_COOKIE: Final = re.compile(rb"[^=;\s]+=([^;\s]{8,})")
_LOGIN: Final = re.compile(rb"login\s{1,9}\S{1,99}\s{1,9}password\s{1,9}([^\s\"'\\]{4,})")
_CURL_USER: Final = re.compile(rb"-(?:u|-user)[ =]?[\"']?[\w.@+-]+:([^\s\"'`\\]{6,})")
_QUOTED_KEY: Final = re.compile(rb"(?:key|token) (?:provided|given): ?[\"'`]?([^\s\"'`\\]{8,})")
#: Behind the word that tells; each pattern begins with its literal.
_TOLD: Final = (
    (_LOGIN, (b"login",)),
    (_CURL_USER, (b"-u ", b"--user ", b"--user=")),
    (_QUOTED_KEY, (b"key provided:", b"token provided:", b"key given:", b"token given:")),
)


def named_in(data: bytes, lower: bytes, *, thorough: bool) -> Iterator[tuple[int, int]]:
    """Yield where a secret stands of which a name tells. `lower` is `data` in lower case.

    `thorough` as in `shapes.shapes_in`.
    """
    yield from _fields(data, lower, thorough=thorough)
    for found in at_literals(data, _VARIABLE, _VARIABLES):
        end = data.index(b"=", found.start())
        if (
            _VARIABLE_NAME.search(data, max(0, end - _LONGEST_NAME), end)
            and (is_random(found[1], 6) if thorough else is_long(found[1]))
            and not found[1].startswith(b"/")
            and (thorough or not is_made_up(found[1]))
        ):
            yield found.span(1)
    for found in at_literals(data, _PARAMETER, _PARAMETERS, within=lower):
        if is_long(found[1]) and (thorough or not is_made_up(found[1])):
            yield found.span(1)
    for found in at_literals(data, _IN_URL, (b"://",)):
        group = 1 if found[1] is not None else 2
        if _counts(found[group], thorough=thorough or group == 2):
            yield found.span(group)
    for line in at_literals(data, _COOKIE_LINE, (b"cookie:",), within=lower):
        for found in _COOKIE.finditer(data, *line.span(1)):
            if is_random(found[1]) and (thorough or not is_made_up(found[1])):
                yield found.span(1)
    for pattern, literals in _TOLD:
        for found in at_literals(data, pattern, literals):
            if _counts(found[1], thorough=thorough):
                yield found.span(1)


def at_literals(
    data: bytes,
    pattern: re.Pattern[bytes],
    literals: tuple[bytes, ...],
    *,
    within: bytes | None = None,
    back: int = 0,
) -> Iterator[re.Match[bytes]]:
    """Yield where `pattern` stands, which begins `back` bytes before one of `literals`.

    To look for the literals first takes a tenth of the time. `within` is `data` in lower case.
    """
    place = data if within is None else within
    for literal in literals:
        end = 0
        at = place.find(literal)
        while at >= 0:
            if at >= end and (found := pattern.match(data, max(0, at - back))) is not None:
                yield found
                end = found.end()
            at = place.find(literal, at + 1)


def is_made_up(value: bytes) -> bool:
    """Tell whether somebody wrote it for a test or a manual."""
    return _MADE_UP.search(value) is not None


def is_random(value: bytes, different: int = 8) -> bool:
    """Tell a token from words: there are digits and letters, and enough different ones."""
    has_digit = any(48 <= byte <= 57 for byte in value)
    has_letter = any(byte > 57 for byte in value)
    return has_digit and has_letter and len(set(value)) >= different


def is_long(value: bytes) -> bool:
    """Tell whether a field's text is a long random one, rather than words or an address."""
    return (
        len(value) >= 16
        and re.fullmatch(rb"[\w.~+/=|%-]+", value) is not None
        and not value.startswith((b"http", b"/"))
        and is_random(value)
    )


def _counts(value: bytes, *, thorough: bool) -> bool:
    """Tell whether what stands where a password does is one, and no `$PASSWORD`."""
    if value.startswith((b"$", b"{", b"<", b"*", b"%", b"//")):
        return False
    return thorough or (is_random(value) and not is_made_up(value))


def _is_dense(value: bytes) -> bool:
    """Tell a token from a long name of a program's: letters and digits change often in it."""
    kinds = [_class(byte) for byte in value]
    changes = sum(one != following for one, following in pairwise(kinds))
    return sum(kind == "digit" for kind in kinds) >= 2 and changes * 5 >= len(value)


def _class(byte: int) -> str:
    character = chr(byte)
    if character.isdigit():
        return "digit"
    return "upper" if character.isupper() else "lower"


def _fields(data: bytes, lower: bytes, *, thorough: bool) -> Iterator[tuple[int, int]]:
    for word in _WORDS:
        at = lower.find(word)
        while at >= 0:
            after = at + len(word)
            if (span := _told(data, after, thorough=thorough)) is not None:
                yield span
                # Nothing in it is looked at again: it may be as long as the data.
                after = span[1]
            at = lower.find(word, after)


def _told(data: bytes, end: int, *, thorough: bool) -> tuple[int, int] | None:
    """Return where the secret stands of which the name that ends at `end` tells."""
    begin = max(0, end - _LONGEST_NAME)
    if (found := _FIELD.match(data, end) or _PART.match(data, end)) is not None:
        name = _NAME.search(data, begin, end)
        if name is None:
            return None
        sure = thorough and _SURE_NAME.fullmatch(name[0]) is not None
        if sure or (is_long(found[1]) and (thorough or not is_made_up(found[1]))):
            return found.span(1)
        return None
    name = _BARE_NAME.search(data, begin, end)
    if name is None:
        return None
    if name[0].lower().endswith(b"cookie"):
        return None  # it has a name of its own in front: see `named_in`
    found, group = _ASSIGNED.match(data, end), 2
    if found is None and name[0].startswith(b"--"):
        found, group = _OPTION.match(data, end), 1
    if found is None:
        return None
    value = found[group]
    quoted = group == 2 and bool(found[1])
    if is_long(value) and (quoted or _is_dense(value)) and (thorough or not is_made_up(value)):
        return found.span(group)
    return None
