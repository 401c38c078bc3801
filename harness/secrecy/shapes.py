"""What tokens, keys, addresses and home folders look like, whoever's they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from harness.secrecy.named import at_literals, is_made_up, is_random, named_in
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


_JWT: Final = re.compile(rb"(?<![\w-])eyJ[\w-]{6,}(?:\.[\w-]*){1,4}")
_KEY: Final = re.compile(
    rb"(?<![\w+/-])(?:(?:sk|sess|xai)-[\w-]{16,}|rt[._][\w.-]{16,}|at-[\w-]{20,}"
    rb"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|xox[abeprs]-[\w-]{10,}|glpat-[\w-]{16,}"
    rb"|[sr]k_live_\w{16,}|gsk_\w{20,}|pypi-[\w-]{40,}|ya29\.[\w-]{20,}"
    rb"|npm_[A-Za-z0-9]{20,}|hf_[A-Za-z0-9]{20,}|AIza[\w-]{30,}|(?:AKIA|ASIA)[A-Z0-9]{16}(?!\w))"
)
_SCHEME: Final = re.compile(rb"(?i:\b(?:bearer|basic) +)([\w.~+/-]{8,}=*)")
#: The content alone: the lines around it are no secret.
_PEM: Final = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----((?:(?!-----)[A-Za-z0-9+/=\s:,.\\-]){16,}?)"
    rb"(?=-----END|\Z|[^A-Za-z0-9+/=\s:,.\\-])"
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
    *(b"xai-", b"sk_live_", b"rk_live_", b"gsk_", b"pypi-", b"ya29."),
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
_ORGANISATION: Final = re.compile(rb"(?<![\w-])(?:org-|proj_)([A-Za-z0-9]{20,28})(?![\w-])")
_DOMAIN: Final = re.compile(
    rb"@((?:[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\x80-\xff-]{0,61}[A-Za-z0-9\x80-\xff])?\.)+"
    rb"[A-Za-z]{2,24})(?![\w-])"
)
_LOCAL_PART: Final = re.compile(rb"(?:[A-Za-z0-9._%+-]|[\xc3-\xd4][\x80-\xbf])+\Z")
_LONGEST_LOCAL_PART: Final = 64
#: What stands in an address before the `@`, with the user before a password.
_IN_FRONT: Final = re.compile(rb"://([^\s/@:\"']*:)?[^\s/@:\"']*\Z")
#: What is longer is a token.
_LONGEST_USER: Final = 20
#: Ends of host names that are nobody's; and what stands behind an `@` of packages and files.
_NOBODYS: Final = re.compile(
    rb"(?i:(?:^|\.)example\.(?:com|org|net)|(?:^|\.)(?:example|invalid|test|localhost|local"
    rb"|tgz|js|ts|py|md|json|yaml|service|git|internal)|^\d[\d.]*\.\w+)\Z"
)
_SERVICES: Final = frozenset({b"git", b"noreply", b"no-reply", b"root"})
#: Of a name with a space in it, all, where a folder follows.
_HOME: Final = re.compile(
    rb"(?:(?<![\w.-])(?:/home/|/var/home/)|(?:(?<![\w.-])|(?<=/[a-z]))/Users/"
    rb"|(?<![\w.-])[A-Za-z]:(?:\\{1,4}|/)Users(?:\\{1,4}|/))"
    rb"([\w.\x80-\xff-]{1,40}(?:(?: [\w.\x80-\xff-]{1,40}){1,3}(?=[\\/]))?)"
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
    for found in at_literals(data, _JWT, (b"eyJ",)):
        yield *found.span(), "token"
    for found in at_literals(data, _KEY, _KEY_PREFIXES):
        if is_random(found[0]) and (thorough or not is_made_up(found[0])):
            yield *found.span(), "key"
    for found in at_literals(data, _SCHEME, (b"bearer ", b"basic "), within=lower):
        if is_random(found[1]) and (thorough or not is_made_up(found[1])):
            yield *found.span(1), "token"
    for found in at_literals(data, _PEM, (b"-----BEGIN ",)):
        if thorough or not is_made_up(found[1]):
            yield *found.span(1), "private-key"
    for start, end in named_in(data, lower, thorough=thorough):
        scheme = _SCHEME.match(data, start)
        yield (scheme.start(1) if scheme is not None else start), end, "token"
    if thorough:
        for found in at_literals(data, _ENCRYPTED_FIELD, (b'"encrypted_content"',)):
            yield *found.span(1), "encrypted"
        for found in at_literals(data, _ID_FIELD, _ID_FIELDS):
            yield *found.span(2), "user-id" if found[1] in _PERSONS else "account-id"
    yield from _addresses(data)
    for found in at_literals(data, _HOME, (b"/home/", b"/Users/", b"/var/home/")):
        if not _is_common(found[1]):
            yield *found.span(1), "user"
    for found in at_literals(data, _HOME, (b":\\Users", b":\\\\Users", b":/Users"), back=1):
        if not _is_common(found[1]):
            yield *found.span(1), "user"
    for found in at_literals(data, _ENCRYPTED, (b"gAAAA",)):
        yield *found.span(), "encrypted"
    for found in at_literals(data, _USER_ID, (b"user-",)):
        if is_random(found[0][5:]):
            yield *found.span(), "user-id"
    for found in at_literals(data, _ORGANISATION, (b"org-", b"proj_")):
        if is_random(found[1]) and (thorough or not is_made_up(found[1])):
            yield *found.span(), "account-id"


def _is_common(name: bytes) -> bool:
    return name.lower().rstrip(b".").decode("utf-8", "replace") in COMMON


def _addresses(data: bytes) -> Iterator[tuple[int, int, str]]:
    for found in _DOMAIN.finditer(data):
        at = found.start()
        # Backwards from the @: a pattern for the whole would try every letter of long texts.
        local = _LOCAL_PART.search(data, max(0, at - _LONGEST_LOCAL_PART), at)
        if local is None or local[0].lower() in _SERVICES or _NOBODYS.search(found[1]):
            continue
        before = _IN_FRONT.search(data, max(0, at - _LONGEST_LOCAL_PART), at)
        if before is not None and (before[1] or len(local[0]) >= _LONGEST_USER):
            # A password, or a token, that goes by itself: the host behind it is no secret.
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
