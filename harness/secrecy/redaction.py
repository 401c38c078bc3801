"""Takes the secrets out of what is recorded, before it is written anywhere."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import attrs

from harness.secrecy.headers import IDENTITY, SECRET, is_kept
from harness.secrecy.named import is_random
from harness.secrecy.scanning import unpacked
from harness.secrecy.search import search
from harness.secrecy.secrets import Secrets
from harness.secrecy.stand_ins import StandIns, is_stand_in, masked, masked_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.cassettes.model import Frame, Headers, Interaction
    from harness.secrecy.search import Hit

_SCHEME: Final = re.compile(r"(?i:bearer|basic|token) +")
_COOKIE: Final = re.compile(r"[^=;\s]+=([^;]*)")
#: What is replaced may leave something that only now reads as a secret; more rounds than this it
#: has never taken.
_ROUNDS: Final = 4
#: Kinds that are looked for everywhere once their shape was seen anywhere. Whole documents of
#: encrypted reasoning, and paths, are not.
_LEARNT: Final = frozenset({"token", "key", "account-id", "user-id"})
#: What the parameters of an address and the fields of a form hold that is a secret by its name.
_FORM: Final = re.compile(
    rb"(?<![\w-])(?i:(?:[\w-]+[_-])?(?:token|secret|password|api_?key)|key|code|code_verifier"
    rb"|state|nonce|assertion|device_code|user_code|sig|signature)=([^&\s#]+)"
)


#: A key, a token or a cookie of fewer characters is made up, or a setting.
_SHORTEST_HEADER: Final = 16
#: How many different characters has what is looked for everywhere, at least.
_DIFFERENT: Final = 6
#: How often something may be packed, for it to be looked into.
_MOST_PACKS: Final = 2
_PERCENT_OR_OTHER: Final = re.compile(rb"%[0-9a-fA-F]{2}|.", re.DOTALL)


@attrs.define(eq=False)
class Redactor:
    """Replaces secrets by stand-ins of the same length, one for each secret in all that it sees.

    `secrets` is looked at anew for each interaction, and it grows: a token that was seen in a
    header, in a field or by its shape is found everywhere from then on.
    """

    secrets: Secrets
    _stand_ins: StandIns = attrs.field(factory=StandIns, init=False)
    #: By the interaction's number: one that is still going on comes more than once.
    _counts: dict[int, Counter[str]] = attrs.field(factory=dict, init=False)

    @property
    def report(self) -> Mapping[str, int]:
        """How often each kind of secret was replaced, in the last state of each interaction."""
        total: Counter[str] = Counter()
        for counted in self._counts.values():
            total.update(counted)
        return dict(sorted(total.items()))

    def interaction(self, one: Interaction, *, finished: bool) -> Interaction:
        """Return the interaction without its secrets; every length and offset stays.

        Of one that is not `finished`, or was cut off, the end of a body may be the beginning of a
        secret: that goes too.
        """
        self._counts[one.number] = Counter()
        self.learn(one)
        return self._without_secrets(one, finished=finished)

    def again(self, one: Interaction) -> Interaction:
        """Return a finished interaction without the secrets that became known since."""
        return self._without_secrets(one, finished=True)

    def _without_secrets(self, one: Interaction, *, finished: bool) -> Interaction:
        counts = self._counts.setdefault(one.number, Counter())
        request, response = one.request, one.response
        is_cut = not finished or not response.stream.complete or response.stream.end != "eof"
        stream = attrs.evolve(
            response.stream, frames=self._frames(response.stream.frames, counts, is_cut=is_cut)
        )
        return attrs.evolve(
            one,
            request=attrs.evolve(
                request,
                uri=self._uri(request.uri, counts),
                headers=self._headers(request.headers, counts),
                body=self._body(request.body, request.headers, counts, is_cut=is_cut),
            ),
            response=attrs.evolve(
                response,
                reason=self._line(response.reason, counts),
                headers=self._headers(response.headers, counts),
                body=self._body(response.body, response.headers, counts, is_cut=is_cut),
                stream=stream,
            ),
        )

    def learn(self, one: Interaction) -> None:
        """Look for what the headers of an interaction hold, everywhere from now on.

        What is shorter than a real one is not looked for: somebody whose key is `codexrelay` would
        spoil every recording.
        """
        for name, value in (*one.request.headers, *one.response.headers):
            if name in ("cookie", "set-cookie"):
                first = value.partition(";")[0] if name == "set-cookie" else value
                for found in _COOKIE.finditer(first):
                    if len(found[1]) >= _SHORTEST_HEADER:
                        self.secrets.add(found[1], "cookie")
            elif name in SECRET and len(secret := _without_scheme(value)) >= _SHORTEST_HEADER:
                self.secrets.add_token(secret, SECRET[name])
            elif name in IDENTITY:
                self.secrets.add(value, IDENTITY[name])

    def data(self, data: bytes, *, is_cut: bool = False) -> bytes:
        """Return any bytes without their secrets, uncounted."""
        return self._redacted(data, Counter(), is_cut=is_cut)

    # --- parts of an interaction

    def _headers(self, headers: Headers, counts: Counter[str]) -> Headers:
        return tuple((name, self._header(name, value, counts)) for name, value in headers)

    def _header(self, name: str, value: str, counts: Counter[str]) -> str:
        kind = SECRET.get(name) or IDENTITY.get(name)
        if kind is None and is_kept(name, value):
            return self._line(value, counts)
        hidden = _without_scheme(value) if kind is not None else value
        if not hidden:
            return value
        counts[kind or "header"] += 1
        return value.removesuffix(hidden) + self._stand_in(hidden)

    def _stand_in(self, text: str) -> str:
        # Headers are latin-1: character by character, not byte by byte.
        if text.isascii():
            return self._stand_ins.of(text.encode()).decode()
        return masked_text(text)

    def _line(self, text: str, counts: Counter[str]) -> str:
        # Latin-1 where it can be: each byte of the wire is one character.
        encoding = "latin-1" if all(each < "\u0100" for each in text) else "utf-8"
        return self._redacted(text.encode(encoding), counts).decode(encoding)

    def _uri(self, uri: str, counts: Counter[str]) -> str:
        return self._form(uri.encode(), counts).decode()

    def _body(self, body: bytes, headers: Headers, counts: Counter[str], *, is_cut: bool) -> bytes:
        if any(name == "content-type" and "urlencoded" in value for name, value in headers):
            return self._form(body, counts, is_cut=is_cut)
        if self._hides(body, headers):
            counts["packed"] += 1
            return bytes(len(body))
        return self._redacted(body, counts, is_cut=is_cut)

    def _hides(self, body: bytes, headers: Headers) -> bool:
        """Tell whether a body is packed, and what is in it a secret, or not to be seen."""
        content, packs = unpacked(body), 0
        while content is not None:
            if packs == _MOST_PACKS or search(content, self.secrets, thorough=True):
                return True
            content, packs = unpacked(content), packs + 1
        if packs or not any(name == "content-encoding" for name, _ in headers):
            return False
        # It has kept its coding, as nobody could take it off.
        return not _is_text(body)

    def _form(self, data: bytes, counts: Counter[str], *, is_cut: bool = False) -> bytes:
        """Return a form or an address without its secrets, also those that only a name tells."""
        for found in _FORM.finditer(data):
            self._learn(unquote_to_bytes(found[1]), "token")
        data = self._redacted(data, counts, is_cut=is_cut)
        written = bytearray(data)
        for found in _FORM.finditer(data):
            if not is_stand_in(unquote_to_bytes(found[1]).decode("utf-8", "replace")):
                # Too short to be looked for elsewhere.
                counts["token"] += 1
                written[found.start(1) : found.end(1)] = _PERCENT_OR_OTHER.sub(
                    lambda each: b"%78" if each[0].startswith(b"%") else b"x", found[1]
                )
        return bytes(written)

    def _frames(
        self, frames: Sequence[Frame], counts: Counter[str], *, is_cut: bool
    ) -> tuple[Frame, ...]:
        new = [self._shown(frame, counts) for frame in frames]
        for direction in ("in", "out"):
            # One after the other, as a secret may begin in one and end in the next.
            places = [
                at
                for at, frame in enumerate(frames)
                if frame.direction == direction and frame.kind in ("text", "bin")
            ]
            whole = self._redacted(b"".join(new[at] for at in places), counts, is_cut=is_cut)
            begin = 0
            for at in places:
                end = begin + len(new[at])
                new[at], begin = whole[begin:end], end
        for at, frame in enumerate(frames):
            if frame.kind not in ("text", "bin"):
                new[at] = self._redacted(new[at], counts)
        return tuple(
            frame if frame.data == data else attrs.evolve(frame, data=data)
            for frame, data in zip(frames, new, strict=True)
        )

    def _shown(self, frame: Frame, counts: Counter[str]) -> bytes:
        """Return what a frame says; nothing of one that hides a secret."""
        if frame.kind != "bin" or not self._hides(frame.data, ()):
            return frame.data
        counts["packed"] += 1
        return bytes(len(frame.data))

    # --- bytes

    def _redacted(self, data: bytes, counts: Counter[str], *, is_cut: bool = False) -> bytes:
        for _ in range(_ROUNDS):
            hits = search(data, self.secrets, thorough=True, is_cut=is_cut)
            if not hits:
                return data
            data = self._without(data, hits, counts)
        # Whatever is left reads as a secret only by what was put there: it goes as it stands.
        for hit in search(data, self.secrets, thorough=True, is_cut=is_cut):
            written = bytearray(data)
            for start, end in hit.spans():
                written[start:end] = masked(data[start:end])
            data = bytes(written)
        return data

    def _without(self, data: bytes, hits: Sequence[Hit], counts: Counter[str]) -> bytes:
        written = bytearray(data)
        for hit in hits:
            for at, new in hit.edits(self._in_place_of(hit)):
                written[at : at + len(new)] = new
            counts[hit.kind] += 1
        return bytes(written)

    def _in_place_of(self, hit: Hit) -> bytes:
        if hit.is_open:
            # No number: the whole has one, when it comes.
            return masked(hit.said)
        if hit.is_exact:
            # Of a beginning, the beginning of what stands for the whole.
            return self._stand_ins.of(hit.secret)[: hit.end - hit.start]
        if hit.kind in _LEARNT and hit.view.is_text:
            self._learn(hit.said, hit.kind)
        return self._stand_ins.of(hit.said)

    def _learn(self, said: bytes, kind: str) -> None:
        # Words stay words: the `"password": "required"` of a schema is found in every text.
        if is_random(said, _DIFFERENT):
            self.secrets.add_token(said.decode("utf-8", "replace"), kind)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _without_scheme(value: str) -> str:
    scheme = _SCHEME.match(value)
    return value[scheme.end() :] if scheme is not None else value
