from __future__ import annotations

import base64
import gzip
import json

import pytest

from harness.cassettes.model import Frame, Interaction, Request, Response, Stream
from harness.secrecy.redaction import Redactor
from harness.secrecy.scanning import scan_bytes
from harness.secrecy.secrets import Secrets
from harness.secrecy.stand_ins import is_stand_in

TOKEN = "Qm7Zt4Lw9Xc2Vb8Ns5Kd1Hf6"
JWT = ".".join(
    base64.urlsafe_b64encode(part).rstrip(b"=").decode()
    for part in (
        b'{"alg":"RS256"}',
        b'{"email":"jane@corp-7.io","sub":"auth0|u-81726354"}',
        b"sig" * 9,
    )
)
JSON = (("content-type", "application/json"),)


def interaction(
    *,
    uri: str = "https://chatgpt.com/backend-api/codex/responses",
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
    answer: bytes = b"",
    answer_headers: tuple[tuple[str, str], ...] = (),
    complete: bool = True,
    frames: tuple[Frame, ...] = (),
    number: int = 1,
) -> Interaction:
    stream = Stream(complete=complete, end="eof" if complete else "reset", frames=frames)
    return Interaction(
        track="upstream",
        began_at_s=0.0,
        request=Request(method="POST", uri=uri, headers=headers, body=body),
        response=Response(status=200, headers=answer_headers, body=answer, stream=stream),
        number=number,
    )


def redactor(*values: str) -> Redactor:
    secrets = Secrets()
    for value in values:
        secrets.add(value, "token")
    return Redactor(secrets)


def test_the_token_of_a_header_is_found_in_every_body() -> None:
    body = json.dumps({"input": f"my token is {TOKEN}, keep it"}).encode()
    one = redactor().interaction(
        interaction(headers=(("authorization", f"Bearer {TOKEN}"),), body=body, answer=body),
        finished=True,
    )
    said = dict(one.request.headers)["authorization"]
    stand_in = said.removeprefix("Bearer ")
    assert stand_in != TOKEN
    assert is_stand_in(stand_in)
    assert one.request.body == one.response.body == body.replace(TOKEN.encode(), stand_in.encode())


def test_a_header_that_is_not_known_keeps_its_name_and_length_alone() -> None:
    headers = (("x-codex-plan-type", "plus"), ("x-odd", "what is it 42"), ("session-id", "s-1"))
    one = redactor().interaction(interaction(headers=headers), finished=True)
    kept, odd, session = one.request.headers
    assert kept == ("x-codex-plan-type", "plus")
    assert odd[0] == "x-odd"
    assert odd[1] == "xxxx xx xx x1"
    assert session == ("session-id", "s-1")


def test_a_cookie_is_found_where_it_comes_back() -> None:
    cookie = "__cf_bm=Kj8s7dKJh2kjh3kJH-1.0; path=/; HttpOnly"
    one = redactor().interaction(
        interaction(answer_headers=(("set-cookie", cookie),), answer=b"Kj8s7dKJh2kjh3kJH-1.0"),
        finished=True,
    )
    assert b"Kj8s" not in one.response.body
    assert "Kj8s" not in one.response.headers[0][1]


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        (JWT, "token"),
        ("sk-proj-Ab3dEf6hIj9lMn2pQr5t", "key"),
        ("rt_Ab3dEf6hIj9lMn2pQr5tUv8", "key"),
        ("ghp_Ab3dEf6hIj9lMn2pQr5tUv8xYz1c", "key"),
        ("AKIAQ7X2M9P4L6T8W1Z3", "key"),
        ("Bearer Ab3dEf6hIj9lMn2pQr5tUv8", "token"),
        ('"refresh_token":"Ab3d Ef6h"', "token"),
        ('"x_secret": "Ab3dEf6hIj9lMn2pQr5tUv8"', "token"),
        ("jane.doe@corp-7.io", "e-mail"),
        ("/home/janedoe/work", "user"),
        ("/Users/jane.doe", "user"),
        (r"C:\Users\janedoe\x", "user"),
        (json.dumps(r"C:\Users\nadine\x"), "user"),
        ('"encrypted_content":"gAAAAABm7Zt4Lw9Xc2Vb8Ns5Kd1Hf6"', "encrypted"),
        ('"safety_identifier":"user-Ab3dEf6hIj9lMn2pQr5tUv8x"', "user-id"),
        ("-----BEGIN RSA PRIVATE KEY-----\nAb3dEf6hIj9lMn2pQr5tUv8\n-----END", "private-key"),
    ],
)
def test_what_looks_like_a_secret_goes_whoever_it_is_of(written: str, kind: str) -> None:
    one = redactor()
    body = f'event: x\ndata: {{"a":"b", {written} , "c":1}}\n\n'.encode()
    done = one.interaction(interaction(answer=body), finished=True)
    assert done.response.body != body
    assert len(done.response.body) == len(body)
    assert one.report == {kind: 1}
    assert one.data(done.response.body) == done.response.body
    assert scan_bytes(done.response.body, Secrets()) == ()


RANDOM = "Ab3dEf6hIj9lMn2pQr5tUv8xYz"


@pytest.mark.parametrize(
    "told",
    [
        "HOME=/x\nOPENAI_API_KEY=sk-proj-@\nA=1",
        "AWS_SECRET_ACCESS_KEY=@",
        "DB_PASSWORD=@",
        'export NPM_TOKEN="@"',
        "origin\thttps://x-access-token:@@github.com/a/b.git (fetch)",
        "origin https://@@github.com/a/b.git",
        "postgres://app:@@db:5432/x",
        "machine api.github.com\n  login joe\n  password @\n",
        "> x-api-key: @\r\n> accept: */*",
        "> Cookie: theme=dark; session=@; x=y\r\n",
        "< Set-Cookie: session=@; Path=/\r\n",
        "curl -H 'x-api-key: @' https://a",
        "curl -u joe:@ https://a",
        '{"error":{"message":"Incorrect API key provided: @. You can"}}',
        '--b\r\nContent-Disposition: form-data; name="refresh_token"\r\n\r\n@\r\n--b--',
        "refresh_token: @",
        'api_key = "@"',
        "api_key='@'",
        'apiKey: "@"',
        "//npm.corp-7.io/:_authToken=@",
        "prog --api-key @ --x",
        "prog --token=@ --x",
        '{"auths":{"ghcr.io":{"auth":"@"}}}',
        "https://x.blob/a?sv=2020&sig=@",
        '{"refresh_token":"@"}',
        "a\nsk-proj-@",
    ],
)
@pytest.mark.parametrize("json_levels", [0, 1, 2, 3])
def test_a_secret_goes_of_which_its_surroundings_tell_however_deep(
    told: str, json_levels: int
) -> None:
    text = told.replace("@", RANDOM, 1).replace("@@", "@")
    for _ in range(json_levels):
        text = json.dumps({"output": text})
    one = redactor()
    clean = one.data(text.encode())
    assert len(clean) == len(text)
    assert RANDOM.encode() not in clean
    assert one.data(clean) == clean
    for _ in range(json_levels):
        clean = json.loads(clean)["output"].encode()
    before, after = told.split("@", 1)
    assert clean.startswith(before.encode())
    assert clean.endswith(after.replace("@@", "@").encode())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n    ", "\n  12\t"])
@pytest.mark.parametrize("encode", [base64.b64encode, bytes.hex])
@pytest.mark.parametrize("json_levels", [0, 2])
def test_what_is_encoded_in_lines_is_read(end: str, encode: object, json_levels: int) -> None:
    document = json.dumps({"x": "y" * 70, "refresh_token": RANDOM, "known": TOKEN, "z": "1" * 90})
    encoded = encode(document.encode())  # type: ignore[operator]
    whole = encoded if isinstance(encoded, str) else encoded.decode()
    text = end.join(whole[at : at + 76] for at in range(0, len(whole), 76))
    written = text
    for _ in range(json_levels):
        written = json.dumps(written)
    clean = redactor(TOKEN).data(written.encode()).decode()
    assert len(clean) == len(written)
    for _ in range(json_levels):
        clean = json.loads(clean)
    joined = clean.replace(end, "")
    decode = bytes.fromhex if encode is bytes.hex else base64.b64decode
    read = json.loads(decode(joined))  # type: ignore[operator]
    assert is_stand_in(read["refresh_token"])
    assert is_stand_in(read["known"])
    assert read["x"] == "y" * 70


@pytest.mark.parametrize("encode", [base64.b64encode, bytes.hex])
def test_an_unknown_key_in_base64_is_found_by_its_shape(encode: object) -> None:
    encoded = encode(f"user jane\nkey sk-proj-{RANDOM}\nthe end".encode())  # type: ignore[operator]
    data = encoded if isinstance(encoded, bytes) else encoded.encode()
    assert [one.kind for one in scan_bytes(data, Secrets())] == ["key"]
    clean = redactor().data(data)
    assert scan_bytes(clean, Secrets()) == ()
    assert clean.startswith(data[:24])


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("jane@b\u00fccher.de", "de"),
        ("jürgen@corp-7.io", "jürgen"),
        (r"C:\Users\Jane Doedle\x", "Doedle"),
        ("/mnt/c/Users/janedoe/x", "janedoe"),
        ("the organization org-Ab3dEf6hIj9lMn2pQr5tUv8x on tokens", "org-Ab3"),
    ],
)
def test_people_and_organisations_go(written: str, left: str) -> None:
    clean = redactor().data(written.encode())
    assert clean != written.encode()
    assert left == "de" or left.encode() not in clean


def test_two_items_told_side_by_side_are_read_each_by_itself() -> None:
    texts = {"a": f"my key is {TOKEN}, it is", "b": "and here something else is said at length"}
    events = [
        f'data: {{"item_id":"{item}","delta":"{text[at : at + 5]}"}}\n\n'
        for at in range(0, 40, 5)
        for item, text in texts.items()
    ]
    clean = redactor(TOKEN).data("".join(events).encode()).decode()
    said = {"a": "", "b": ""}
    for line in clean.split("\n\n")[:-1]:
        event = json.loads(line[6:])
        said[event["item_id"]] += event["delta"]
    assert said["b"] == texts["b"][:40]
    assert TOKEN not in said["a"]
    assert said["a"].startswith("my key is x")


def test_what_the_pieces_of_a_cut_stream_begin_to_say_goes() -> None:
    pieces = ["key: ", TOKEN[:5], TOKEN[5:9], TOKEN[9:14]]
    body = "".join(f'data: {{"delta":"{piece}"}}\n\n' for piece in pieces)[:-6].encode()
    clean = redactor(TOKEN).data(body, is_cut=True)
    assert len(clean) == len(body)
    assert all(piece.encode() not in clean for piece in pieces[1:])


def test_words_in_a_field_of_a_telling_name_go_there_alone() -> None:
    body = b'{"password": "required", "text": "a password is required"}'
    assert redactor().data(body) == body.replace(b'"required"', b'"xxxxxxx1"')


def test_a_packed_body_that_hides_a_secret_is_empty_of_it() -> None:
    packed = gzip.compress(f"a {TOKEN}".encode())
    harmless = gzip.compress(b"nothing in here")
    coded = (("content-encoding", "br"),)
    one = redactor(TOKEN)
    assert one.interaction(interaction(body=packed), finished=True).request.body == bytes(
        len(packed)
    )
    twice = gzip.compress(packed)
    assert one.interaction(interaction(body=twice), finished=True).request.body == bytes(len(twice))
    assert one.interaction(interaction(body=harmless), finished=True).request.body == harmless
    # What nobody can unpack may hold anything; what says so wrongly is looked at.
    unread = interaction(headers=coded, body=b"\x8b\xff\x00")
    assert one.interaction(unread, finished=True).request.body == bytes(3)
    wrong = interaction(headers=coded, body=b'{"a":"b"}')
    assert one.interaction(wrong, finished=True) == wrong


@pytest.mark.parametrize(
    "harmless",
    [
        "sim-1@example.com",
        "git@github.com",
        "openai@1.18.33",
        "/home/user/project",
        "resp_0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f607182",
        "call_Ab3dEf6hIj9lMn2pQr5tUv8x",
        "7c211433f02071597741e6ff5a8ea34789abbf43",
        "00000000-0000-4000-8000-000000000001",
        "019ac2f1-7d53-7a11-9c3b-1f0f5f0d2c11",
        '"max_output_tokens": 32000, "token_type": "Bearer"',
        '"prompt_cache_key":"ses_5d1c7b8a9ffe2kQmZt4Lw9Xc2V"',
        "token = self._next_token_of_page_2, secret: SecretStr = get_secret(2)",
        "usage: load -u http://127.0.0.1:PORT/path; docker run -u 1000:1000",
        "https://$USER:$PASSWORD@host and ssh://git@github.com:22/a",
        "CACHE_KEY=/var/cache/x1 PWD=/srv/x1 SSH_AUTH_SOCK=/tmp/ssh-XYZ1/agent.12",
        "a1b2c3d4\n" * 9,
        "the Basic understanding of at-least-one-of-these-things",
    ],
)
def test_ids_hashes_and_words_stay(harmless: str) -> None:
    body = f'{{"a":"{harmless}"}}'.encode()
    assert redactor().data(body) == body


def test_the_same_secret_has_the_same_stand_in_and_another_one_another() -> None:
    one = redactor(TOKEN, TOKEN[::-1])
    first, second, third = one.data(f"{TOKEN} {TOKEN[::-1]} {TOKEN}".encode()).split()
    assert first == third != second
    assert redactor(TOKEN).data(TOKEN.encode()) == first  # numbered by appearance


def test_the_stand_in_of_a_jwt_has_three_parts() -> None:
    parts = redactor().data(JWT.encode()).split(b".")
    assert [len(part) for part in parts] == [len(part) for part in JWT.split(".")]


def test_a_secret_in_pieces_over_events_is_found() -> None:
    pieces = ["my key: ", TOKEN[:3], TOKEN[3:11], TOKEN[11:], ", and /home/", "jan", "edoe/x"]
    body = "".join(
        f"data: {json.dumps({'type': 't', 'delta': piece, 'obfuscation': 'a1'})}\n\n"
        for piece in pieces
    ).encode()
    clean = redactor(TOKEN).data(body)
    assert len(clean) == len(body)
    said = "".join(json.loads(line[6:])["delta"] for line in clean.split(b"\n\n") if line)
    assert said == "my key: xxxxxxxxxxxxxxxxxxxxxxx1, and /home/xxxxxx2/x"


def test_a_secret_over_two_frames_of_one_direction_is_found() -> None:
    def frame(direction: str, data: str) -> Frame:
        return Frame(at_s=0.0, direction=direction, kind="text", data=data.encode())  # type: ignore[arg-type]

    frames = (frame("in", f"a{TOKEN[:9]}"), frame("out", "between"), frame("in", f"{TOKEN[9:]}z"))
    one = redactor(TOKEN).interaction(interaction(frames=frames), finished=True)
    first, between, last = (each.data for each in one.response.stream.frames)
    assert first == b"axxxxxxxxx"
    assert between == b"between"
    assert last == b"xxxxxxxxxxxxxx1z"


@pytest.mark.parametrize(
    "end",
    [TOKEN[:4], TOKEN[:20], JWT[:30], "sk-pr", "Bearer Ab3d", '"access_token":"ab', "jane@co"],
)
def test_where_a_body_was_cut_off_the_beginning_of_a_secret_goes(end: str) -> None:
    body = f"some text {end}".encode()
    one = interaction(answer=body, complete=False)
    done = redactor(TOKEN).interaction(one, finished=True).response.body
    assert len(done) == len(body)
    assert done.startswith(b"some text ")
    assert end.encode() not in done


def test_an_interaction_that_comes_again_is_counted_once() -> None:
    one = redactor(TOKEN)
    for finished in (False, False, True):
        one.interaction(interaction(body=TOKEN.encode()), finished=finished)
    one.interaction(interaction(body=TOKEN.encode(), number=2), finished=True)
    assert one.report == {"token": 2}


def test_parameters_of_an_address_and_a_form_that_are_secrets_by_name_go() -> None:
    form = (("content-type", "application/x-www-form-urlencoded"),)
    one = redactor().interaction(
        interaction(
            uri="https://auth.openai.com/x?code=a%2Fb7c&client_version=0.169.0",
            headers=form,
            body=b"grant_type=refresh_token&refresh_token=ab%2Bcd-ef-gh&client_id=app_1",
        ),
        finished=True,
    )
    assert one.request.uri == "https://auth.openai.com/x?code=x%78xxx&client_version=0.169.0"
    kept = one.request.body.split(b"&")
    assert kept[0] == b"grant_type=refresh_token"
    assert kept[2] == b"client_id=app_1"
    assert b"ab%2Bcd" not in one.request.body
    assert len(one.request.body) == 68


def test_nothing_is_changed_where_there_is_no_secret() -> None:
    body = json.dumps({"input": [{"role": "user", "content": "ünïcode \\ / \n"}]}).encode()
    one = interaction(headers=JSON, body=body, answer=b"\x00\xff\xfe binary \\u00")
    assert redactor(TOKEN).interaction(one, finished=True) == one
