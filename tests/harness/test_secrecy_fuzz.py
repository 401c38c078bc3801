"""Random secrets in random forms, cut anywhere: none gets through, and nothing else changes."""

from __future__ import annotations

import base64
import json
import random
import re
import string
import urllib.parse

from hypothesis import given
from hypothesis import strategies as st

from harness.secrecy.redaction import Redactor
from harness.secrecy.scanning import scan_bytes
from harness.secrecy.secrets import Secrets

ALPHANUMERIC = string.ascii_letters + string.digits


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def random_text(rng: random.Random, size: int, alphabet: str = ALPHANUMERIC) -> str:
    return "".join(rng.choices(alphabet, k=size))


def a_secret(rng: random.Random) -> tuple[str, str]:
    match rng.randrange(7):
        case 0:
            parts = json.dumps({"alg": "RS256"}), json.dumps({"sub": random_text(rng, 20)})
            whole = ".".join(base64url(part.encode()) for part in parts)
            return f"{whole}.{random_text(rng, 40)}", "token"
        case 1:
            return f"sk-proj-{random_text(rng, 32, ALPHANUMERIC + '_-')}", "key"
        case 2:
            return f"{random_text(rng, 9).lower()}@{random_text(rng, 6).lower()}.io", "e-mail"
        case 3:
            return random_text(rng, rng.randint(9, 14)), "token"
        case 4:
            return random_text(rng, 20, ALPHANUMERIC + "/+="), "token"
        case 5:
            return f"ключ-{random_text(rng, 8)}-é-\U0001f600-{random_text(rng, 8)}", "key"
        case _:
            digits = random_text(rng, 32, "0123456789abcdef")
            lengths, parts = (8, 4, 4, 4, 12), []
            for length in lengths:
                parts, digits = [*parts, digits[:length]], digits[length:]
            return "-".join(parts), "account-id"


# --- the forms a secret may have


def plain(text: str, rng: random.Random) -> str:
    return text


def as_json(text: str, rng: random.Random) -> str:
    def one(character: str) -> str:
        if character in '"\\':
            return "\\" + character
        if character == "/" and rng.random() < 0.5:
            return "\\/"
        if rng.random() < 0.4:
            escaped = json.dumps(character)[1:-1]
            return escaped if len(escaped) > 1 else f"\\u{ord(character):04x}"
        return character

    return "".join(one(character) for character in text)


def as_url(text: str, rng: random.Random) -> str:
    def one(byte: int) -> str:
        character = chr(byte)
        if character in ALPHANUMERIC + "-._~@" and rng.random() < 0.7:
            return character
        return f"%{byte:02X}" if rng.random() < 0.7 else f"%{byte:02x}"

    return "".join(one(byte) for byte in text.encode())


def as_base64(text: str, rng: random.Random) -> str:
    # In front no byte that would begin an escape, and so make what follows read otherwise.
    before = rng.randbytes(rng.randrange(9)).replace(b"\\", b"/").replace(b"%", b"/")
    data = before + text.encode() + rng.randbytes(rng.randrange(9))
    encoded = base64.b64encode(data) if rng.random() < 0.5 else base64.urlsafe_b64encode(data)
    return encoded.decode().rstrip("=") if rng.random() < 0.5 else encoded.decode()


def as_lines(text: str, rng: random.Random) -> str:
    """As `base64 FILE` prints it."""
    before, after = (rng.randbytes(rng.randint(50, 90)) for _ in range(2))
    # As above: no byte that would begin an escape.
    before = before.replace(b"\\", b"/").replace(b"%", b"/")
    encoded = base64.b64encode(before + text.encode() + after).decode()
    width, end = rng.choice((64, 76)), rng.choice(("\n", "\r\n", "\n  "))
    return end.join([*(encoded[at : at + width] for at in range(0, len(encoded), width)), ""])


def as_hex(text: str, rng: random.Random) -> str:
    return text.encode().hex()


FORMS = (plain, as_json, as_url, as_base64)


def written(secret: str, rng: random.Random) -> str:
    if rng.random() < 0.1:
        return as_hex(secret, rng)
    if rng.random() < 0.1:
        return rng.choice((plain, as_json, as_url))(as_lines(secret, rng), rng)
    return rng.choice(FORMS)(rng.choice(FORMS)(secret, rng), rng)


# --- another way to find them: decode everything there is, as often as it changes something


def oracle(data: bytes, depth: int = 3) -> set[bytes]:
    """Everything that `data` may be read as."""
    read = {data}
    if depth == 0:
        return read
    once: set[bytes] = set()
    text = data.decode("utf-8", "replace")
    unescaped = re.sub(
        r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))',
        lambda found: chr(int(found[1], 16)) if found[1] else json.loads(f'"{found[0]}"'),
        text,
    )
    once.add(unescaped.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode())
    once.add(urllib.parse.unquote_to_bytes(data))
    unwrapped = re.sub(rb"\s*\n\s*", b"", data)
    for run in re.findall(rb"[A-Za-z0-9+/_-]{11,}", data + b" " + unwrapped):
        for shift in range(4):
            aligned = run[shift:].translate(bytes.maketrans(b"-_", b"+/"))
            once.add(base64.b64decode(aligned[: len(aligned) // 4 * 4]))
            once.add(base64.b64decode(aligned + b"A" * (-len(aligned) % 4)))
    for run in re.findall(rb"[0-9a-fA-F]{16,}", data):
        once |= {bytes.fromhex(run[s:][: (len(run) - s) // 2 * 2].decode()) for s in (0, 1)}
    for each in once - read:
        read |= oracle(each, depth - 1)
    return read


def is_readable(secret: str, data: bytes) -> bool:
    return any(secret.lower().encode() in each.lower() for each in oracle(data, 2))


BORDERS = (" ", '"', "\n", "&", ": ", "<", "'")


def a_body(rng: random.Random, secrets: list[tuple[str, str]]) -> tuple[bytes, list[str]]:
    """Return a body, and everything in it that is no secret, in order."""
    between, body = [], ""
    for number in range(rng.randint(1, 5)):
        words = " ".join(random_text(rng, rng.randint(1, 7), string.ascii_lowercase) for _ in "abc")
        gap = f"event: e{number}\ndata: {{{words}{rng.choice(BORDERS)}"
        between.append(gap)
        body += gap + written(rng.choice(secrets)[0], rng) + rng.choice(BORDERS)
    return body.encode(), between


def check(seed: int) -> None:
    rng = random.Random(seed)
    known = [a_secret(rng) for _ in range(rng.randint(1, 4))]
    secrets = Secrets()
    for value, kind in known:
        secrets.add(value, kind)
    body, between = a_body(rng, known)
    assert scan_bytes(body, secrets), body
    redactor = Redactor(secrets)
    clean = redactor.data(body)
    assert len(clean) == len(body)
    assert not any(is_readable(value, clean) for value, _ in known), (body, clean)
    assert scan_bytes(clean, secrets) == (), (body, clean)
    at = 0
    for gap in between:  # what stands between the secrets is what it was
        at = body.index(gap.encode(), at)
        assert clean[at : at + len(gap)] == gap.encode(), (body, clean)
    assert redactor.data(clean) == clean
    cut = body[: rng.randrange(1, len(body))]
    clean = Redactor(secrets).data(cut, is_cut=True)
    assert len(clean) == len(cut)
    for value, _ in known:
        beginning = value[: max(8, len(value) // 2)]
        assert not is_readable(value, clean), (cut, clean)
        if not any(other.startswith(beginning) for other, _ in known if other != value):
            # `sk-proj-` is no part of the secret, and stays.
            first = value.encode()[: 12 if value.startswith("sk-proj-") else 8]
            assert not any(each.endswith(first) for each in oracle(clean, 2)), (cut, clean)


@given(st.integers(min_value=0, max_value=2**32))
def test_no_form_of_a_secret_gets_through_and_nothing_else_changes(seed: int) -> None:
    check(seed)
