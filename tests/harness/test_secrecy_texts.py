from __future__ import annotations

import json

import attrs
from hypothesis import given
from hypothesis import strategies as st

from harness.secrecy.texts import Filler
from tests.harness.test_secrecy_redaction import interaction

PROMPT = "Run the shell command 'echo mark-4711' and tell me"


def filled(value: object, *, ascii_only: bool = True) -> object:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    new = Filler(keep=(PROMPT, "mark-4711")).request(body)
    assert len(new) == len(body)
    return json.loads(new)


def test_prompts_and_descriptions_become_filler_and_the_rest_stays() -> None:
    body = {
        "model": "gpt-5.5",
        "instructions": 'You are 7 agents.\nBe "kind".',
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi, Jo!"}]}],
        "tools": [
            {
                "type": "function",
                "name": "shell",
                "description": "Runs it.",
                "parameters": {
                    "properties": {"text": {"type": "string", "enum": ["a b", "c"]}},
                    "required": ["text"],
                },
            }
        ],
    }
    want = json.loads(json.dumps(body))
    want["instructions"] = 'xxx xxx 0 xxxxxx.\nxx "xxxx".'
    want["input"][0]["content"][0]["text"] = "xx, xx!"
    want["tools"][0]["description"] = "xxxx xx."
    assert filled(body) == want


def test_what_is_our_own_stays_also_within_other_texts() -> None:
    text = f'"{PROMPT}" said somebody'
    assert filled({"content": text}) == {"content": f'"{PROMPT}" xxxx xxxxxxxx'}
    assert filled({"output": "it printed mark-4711\n"}) == {"output": "xx xxxxxxx mark-4711\n"}


def test_json_in_a_string_stays_json() -> None:
    inner = json.dumps({"session_id": "s-1", "instructions": 'a "b" \u00e9'})
    new = filled({"client_metadata": {"x-codex": inner}})
    told = json.loads(new["client_metadata"]["x-codex"])  # type: ignore[index]
    assert told == {"session_id": "s-1", "instructions": 'x "x" \u00d7'}


@given(st.text())
def test_a_text_is_the_same_afterwards_however_it_was_escaped(text: str) -> None:
    assert filled({"text": text}) == filled({"text": text}, ascii_only=False)


@given(st.text(alphabet=st.characters(categories=("L", "N"))))
def test_no_letter_is_left(text: str) -> None:
    new = filled({"text": text}, ascii_only=False)["text"]  # type: ignore[index]
    assert set(new) <= set("x0\u00d7\u2715\U0001d431")
    assert len(new.encode()) == len(text.encode())


def test_of_an_answer_only_what_it_repeats_is_filled() -> None:
    response = {"instructions": "Be kind", "tools": [{"name": "a", "description": "Does it"}]}
    created = json.dumps({"type": "response.created", "response": response})
    delta = json.dumps({"type": "response.output_text.delta", "delta": "Hello", "text": "Hello"})
    body = f"event: a\ndata: {created}\n\nevent: b\ndata: {delta}\n\n".encode()
    want = body.replace(b"Be kind", b"xx xxxx").replace(b"Does it", b"xxxx xx")
    done = Filler().interaction(interaction(body=b"no json", answer=body))
    assert done.response.body == want
    assert done.request.body == b"no json"


def test_a_body_that_was_cut_off_is_filled_to_its_end() -> None:
    assert Filler().request(b'{"content": "Half a sent') == b'{"content": "xxxx x xxxx'


def test_a_programs_machine_is_filled_and_the_relays_own_name_is_left() -> None:
    codex = "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm (codex_exec; 0.169.0)"
    headers = (
        ("user-agent", codex),
        ("x-stainless-os", "Linux"),
        ("x-stainless-runtime-version", "v22.1.0"),
        ("x-stainless-lang", "js"),
    )
    upstream = interaction(headers=headers)
    client = Filler().interaction(attrs.evolve(upstream, track="client"))
    assert client.request.headers == (
        ("user-agent", "codex_exec/0.169.0 (xxxxxx 00.0.0; x00_00) xterm (codex_exec; 0.169.0)"),
        ("x-stainless-os", "xxxxx"),
        ("x-stainless-runtime-version", "x00.0.0"),
        ("x-stainless-lang", "js"),
    )
    assert Filler().interaction(upstream) == upstream
