"""What tokens, keys, addresses and home folders look like, whoever's they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from harness.secrecy.secrets import COMMON
from harness.secrecy.stand_ins import is_stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.frozen
class Found:
    """Where something with the shape of a secret stands."""

    start: int
    end: int
    kind: str
    #: The end of the data ends it: it may go on in what was cut off.
    is_open: bool = False


#: Words in tokens that somebody made up for a test or a manual.
_MADE_UP: Final = re.compile(
    rb"example|test|fake|dummy|made-?up|placeholder|redacted|your|sample|secret|simulat|relay|xxxx"
    rb"|0123|1234|abcd|token|random|letters|client|some[-_]|(.)\1{5}",
    re.IGNORECASE,
)
_JWT: Final = re.compile(rb"(?<![\w-])eyJ[\w-]{6,}(?:\.[\w-]*){1,4}")
_KEY: Final = re.compile(
    rb"(?<![\w+/=-])(?:(?:sk|sess)-[\w-]{16,}|rt[._][\w.-]{16,}|at-[\w-]{20,}"
    rb"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|xox[abeprs]-[\w-]{10,}|glpat-[\w-]{16,}"
    rb"|npm_[A-Za-z0-9]{20,}|hf_[A-Za-z0-9]{20,}|AIza[\w-]{30,}|(?:AKIA|ASIA)[A-Z0-9]{16}(?!\w))"
)
_SCHEME: Final = re.compile(rb"(?i:\b(?:bearer|basic) +)([\w.~+/-]{8,}=*)")
#: The content alone: the lines around it are no secret.
_PEM: Final = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----([A-Za-z0-9+/=\s:,.\\-]{16,}?)"
    rb"(?=-----END|\Z|[^A-Za-z0-9+/=\s:,.\\-])"
)
#: Fields that hold nothing else, and those whose names only sound like it.
_SURE: Final = (
    rb"(?:access|refresh|id|session|auth)_?token|client_secret|password|passwd|authorization|cookie"
    rb"|set-cookie|code_verifier|device_auth_id|user_code|authorization_code|x-api-key|api[_-]?key"
)
#: The last word of a telling name, where what it tells begins, and the text.
_FIELD_WORDS: Final = (
    b"token",
    b"secret",
    b"password",
    b"passwd",
    b"api_key",
    b"api-key",
    b"apikey",
    b"authorization",
    b"cookie",
    b"code_verifier",
    b"device_auth_id",
    b"user_code",
    b"authorization_code",
)
_FIELD_TEXT: Final = re.compile(rb"[\"']\s*:\s*[\"']([^\"'\\\r\n]{8,})")
_NAME: Final = re.compile(rb"(?<=[\"'])[\w-]+\Z")
_LONGEST_NAME: Final = 64
_SURE_NAME: Final = re.compile(rb"(?i:%s)" % _SURE)
_PARAMETER: Final = re.compile(
    rb"(?<![\w-])(?i:((?:access_|refresh_|id_|subject_)?token|code|code_verifier|state"
    rb"|client_secret|password|api_?key|key|device_code|user_code|assertion))="
    rb"([^&\s\"'<>\\]{8,})"
)
_ENCRYPTED_FIELD: Final = re.compile(rb"\"encrypted_content\"\s*:\s*\"([^\"\\]{8,})")
_ENCRYPTED: Final = re.compile(rb"(?<![\w+/=-])gAAAA[\w=-]{60,}")
_ID_FIELD: Final = re.compile(
    rb"\"(safety_identifier|(?:chatgpt_)?user_id|(?:chatgpt_)?account_id|chatgpt_account_user_id"
    rb"|organization_id|workspace_id)\"\s*:\s*\"([^\"\\]{8,})"
)
_KEY_PREFIXES: Final = (
    *(b"sk-", b"sess-", b"rt_", b"rt.", b"at-", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"),
    *(b"github_pat_", b"xox", b"glpat-", b"npm_", b"hf_", b"AIza", b"AKIA", b"ASIA"),
)
_PARAMETERS: Final = (
    *(b"token=", b"access_token=", b"refresh_token=", b"id_token=", b"subject_token=", b"code="),
    *(b"code_verifier=", b"state=", b"client_secret=", b"password=", b"apikey=", b"api_key="),
    *(b"key=", b"device_code=", b"user_code=", b"assertion="),
)
_ID_FIELDS: Final = (
    *(b'"safety_identifier"', b'"user_id"', b'"chatgpt_user_id"', b'"account_id"'),
    *(b'"chatgpt_account_id"', b'"chatgpt_account_user_id"', b'"organization_id"'),
    b'"workspace_id"',
)
_PERSONS: Final = frozenset(
    {b"safety_identifier", b"user_id", b"chatgpt_user_id", b"chatgpt_account_user_id"}
)
_USER_ID: Final = re.compile(rb"(?<![\w-])user-[A-Za-z0-9]{20,28}(?![\w-])")
_DOMAIN: Final = re.compile(
    rb"@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24})(?![\w-])"
)
_LOCAL_PART: Final = re.compile(rb"[A-Za-z0-9._%+-]+\Z")
_LONGEST_LOCAL_PART: Final = 64
#: Ends of host names that are nobody's; and what stands behind an `@` of packages and files.
_NOBODYS: Final = re.compile(
    rb"(?i:(?:^|\.)example\.(?:com|org|net)|(?:^|\.)(?:example|invalid|test|localhost|local"
    rb"|tgz|js|ts|py|md|json|yaml|service|git|internal)|^\d[\d.]*\.\w+)\Z"
)
_SERVICES: Final = frozenset({b"git", b"noreply", b"no-reply", b"root"})
_HOME: Final = re.compile(
    rb"(?<![\w.-])(?:/home/|/Users/|/var/home/|[A-Za-z]:(?:\\{1,4}|/)Users(?:\\{1,4}|/))"
    rb"([\w.\x80-\xff-]{1,40})"
)
#: The beginning of what would be found if it went on.
_OPEN: Final = re.compile(
    rb"(?<![\w+/=-])(?:(?:eyJ[\w.-]+|(?:sk|sess)-[\w-]+|rt[._][\w.-]+|at-[\w-]+|gh[pousr]_\w+"
    rb"|github_pat_\w+|xox[abeprs]-[\w-]+|glpat-[\w-]+|npm_\w+|hf_\w+|AIza[\w-]+|AKIA\w+|ASIA\w+"
    rb"|gAAAA[\w=-]*|user-\w+)|(?i:(?:bearer|basic) +)([\w.~+/=-]+))\Z"
)
_OPEN_FIELD: Final = re.compile(
    rb"[\"'](?:(?i:[\w-]*(?:token|secret|password|api[_-]?key|authorization|cookie))"
    rb"|code_verifier|device_auth_id|user_code|encrypted_content|safety_identifier"
    rb"|(?:chatgpt_)?(?:user|account)_id|chatgpt_account_user_id)[\"']\s*:\s*[\"']"
    rb"([^\"'\\\r\n]+)\Z"
)
_OPEN_ADDRESS: Final = re.compile(rb"(?<![\w.%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]*\Z")
_OPEN_PEM: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----([A-Za-z0-9+/=\s\\]+)\Z")
#: As far back as an open shape is looked for, in bytes. Longer ones are found by their shape.
_REACH: Final = 4096


def shapes_in(data: bytes, *, thorough: bool, is_cut: bool) -> Iterator[Found]:
    """Yield what looks like a secret, stand-ins left out.

    `thorough` takes more for a secret: whatever stands in a field or parameter of a telling name,
    made-up values as well, and ids of people and accounts. `is_cut` looks for beginnings in the
    end.
    """
    for start, end, kind in _all(data, thorough=thorough):
        if not is_stand_in(data[start:end].decode("utf-8", "replace")):
            yield Found(start, end, kind, is_open=is_cut and end == len(data))
    if is_cut:
        for start, end, kind in _beginnings(data):
            if not is_stand_in(data[start:end].decode("utf-8", "replace")):
                yield Found(start, end, kind, is_open=True)


def _all(data: bytes, *, thorough: bool) -> Iterator[tuple[int, int, str]]:
    lower = data.lower()
    for found in _at(data, _JWT, (b"eyJ",)):
        yield *found.span(), "token"
    for found in _at(data, _KEY, _KEY_PREFIXES):
        if _is_random(found[0]) and (thorough or not _MADE_UP.search(found[0])):
            yield *found.span(), "key"
    for found in _at(data, _SCHEME, (b"bearer ", b"basic "), within=lower):
        if _is_random(found[1]) and (thorough or not _MADE_UP.search(found[1])):
            yield *found.span(1), "token"
    for found in _at(data, _PEM, (b"-----BEGIN ",)):
        if thorough or not _MADE_UP.search(found[1]):
            yield *found.span(1), "private-key"
    yield from _fields(data, lower, thorough=thorough)
    yield from _addresses(data)
    for found in _at(data, _HOME, (b"/home/", b"/Users/", b"/var/home/")):
        if not _is_common(found[1]):
            yield *found.span(1), "user"
    for found in _at(data, _HOME, (b":\\Users", b":\\\\Users", b":/Users"), back=1):
        if not _is_common(found[1]):
            yield *found.span(1), "user"
    for found in _at(data, _ENCRYPTED, (b"gAAAA",)):
        yield *found.span(), "encrypted"
    for found in _at(data, _USER_ID, (b"user-",)):
        if _is_random(found[0][5:]):
            yield *found.span(), "user-id"


def _at(
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


def _is_common(name: bytes) -> bool:
    return name.lower().rstrip(b".").decode("utf-8", "replace") in COMMON


def _fields(data: bytes, lower: bytes, *, thorough: bool) -> Iterator[tuple[int, int, str]]:
    for word in _FIELD_WORDS:
        at = lower.find(word)
        while at >= 0:
            after = at + len(word)
            found = _FIELD_TEXT.match(data, after)
            if found is not None and _is_told(data, after, found[1], thorough=thorough):
                start, end = found.span(1)
                if (scheme := _SCHEME.match(data, start)) is not None:
                    start = scheme.start(1)
                yield start, end, "token"
            at = lower.find(word, after)
    for found in _at(data, _PARAMETER, _PARAMETERS, within=lower):
        if _is_long(found[2]) and (thorough or not _MADE_UP.search(found[2])):
            yield *found.span(2), "token"
    if not thorough:
        return
    for found in _at(data, _ENCRYPTED_FIELD, (b'"encrypted_content"',)):
        yield *found.span(1), "encrypted"
    for found in _at(data, _ID_FIELD, _ID_FIELDS):
        yield *found.span(2), "user-id" if found[1] in _PERSONS else "account-id"


def _is_told(data: bytes, end: int, text: bytes, *, thorough: bool) -> bool:
    """Tell whether the field whose name ends at `end` holds a secret."""
    name = _NAME.search(data, max(0, end - _LONGEST_NAME), end)
    if name is None:
        return False
    if thorough and _SURE_NAME.fullmatch(name[0]) is not None:
        return True
    return _is_long(text) and (thorough or not _MADE_UP.search(text))


def _addresses(data: bytes) -> Iterator[tuple[int, int, str]]:
    for found in _DOMAIN.finditer(data):
        at = found.start()
        # Backwards from the @: a pattern for the whole would try every letter of long texts.
        local = _LOCAL_PART.search(data, max(0, at - _LONGEST_LOCAL_PART), at)
        if local is None or local[0].lower() in _SERVICES or _NOBODYS.search(found[1]):
            continue
        yield local.start(), found.end(), "e-mail"


def _beginnings(data: bytes) -> Iterator[tuple[int, int, str]]:
    begin = max(0, len(data) - _REACH)
    patterns = (
        (_OPEN, "token"),
        (_OPEN_FIELD, "token"),
        (_OPEN_ADDRESS, "e-mail"),
        (_OPEN_PEM, "private-key"),
    )
    for pattern, kind in patterns:
        if (found := pattern.search(data, begin)) is not None:
            group = 1 if pattern.groups and found[1] is not None else 0
            if found.end() - found.start() >= 4:
                yield *found.span(group), kind


def _is_random(value: bytes) -> bool:
    """Tell a token from words: there are digits and letters, and enough different ones."""
    has_digit = any(48 <= byte <= 57 for byte in value)
    has_letter = any(byte > 57 for byte in value)
    return has_digit and has_letter and len(set(value)) >= 8


def _is_long(value: bytes) -> bool:
    """Tell whether a field's text is a long random one, rather than words or an address."""
    return (
        len(value) >= 16
        and re.fullmatch(rb"[\w.~+/=|%-]+", value) is not None
        and not value.startswith((b"http", b"/"))
        and _is_random(value)
    )
