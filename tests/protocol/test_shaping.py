"""Whatever is asked of a request, its texts arrive and nothing of the relay's goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from codexrelay.errors import RequestError
from codexrelay.protocol.capabilities import KEYS, resolve
from codexrelay.protocol.chat_request import translate
from codexrelay.protocol.raw import dump, get_list, is_object
from codexrelay.protocol.relay_fields import ENVIRONMENT, NAMES, RelayFields
from codexrelay.protocol.responses_request import shape
from codexrelay.protocol.shaping import Shaping
from tests.fakes.client_requests import CLIENTS, texts_in

if TYPE_CHECKING:
    from codexrelay.protocol.capabilities import Dialect, Given
    from codexrelay.protocol.raw import Json, JsonObject
    from tests.fakes.client_requests import ClientRequest

words = st.text(max_size=8)
capabilities = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(allowed or (True, False)) for key, allowed in KEYS.items()}
).filter(lambda given: given.get("tool_text_format") not in ("codex_xml", "default", "inherit"))
said = st.builds(
    RelayFields,
    system_prompt=st.lists(words.filter(bool), max_size=2).map(tuple),
    environment=st.dictionaries(st.sampled_from(ENVIRONMENT), words, max_size=3),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
names = st.sampled_from(
    [*sorted(NAMES), "instructions", "input", "messages", "tools", "reasoning", "text", "new"]
)


def shaped(route: Dialect, body: JsonObject, shaping: Shaping, *, codex: bool) -> JsonObject:
    if route == "openai-chat":
        return translate(body, recall=lambda _: (), shaping=shaping).body
    return shape(body, session_cache_key="key", codex_shaped=codex, shaping=shaping).body


def everything_said(body: JsonObject) -> list[str]:
    texts = [text for item in get_list(body, "input") for text in texts_in(item)]
    return [str(body.get("instructions", "")), *texts]


@given(
    system=words,
    prompt=words,
    given_capabilities=capabilities,
    said=said,
    route=st.sampled_from(["openai-chat", "openai-responses"]),
    codex=st.booleans(),
)
def test_every_text_of_the_client_arrives(
    system: str,
    prompt: str,
    given_capabilities: Given,
    said: RelayFields,
    route: Dialect,
    codex: bool,
) -> None:
    shaping = Shaping(capabilities=resolve(route, (given_capabilities,)), said=said)
    user: Json = {"role": "user", "content": prompt}
    body: JsonObject = {"model": "m"}
    if route == "openai-chat":
        body["messages"] = [{"role": "system", "content": system}, user]
    else:
        body |= {"instructions": system, "input": [user]}
    sent = everything_said(shaped(route, body, shaping, codex=codex))
    for text in (system, prompt, *said.system_prompt):
        assert any(text in said for said in sent)
    told = shaping.capabilities.include_environment_context
    for name, value in said.environment.items():
        assert any(f"<{name}>{value}</{name}>" in each for each in sent) is (told and value != "")


@given(
    client=st.sampled_from(CLIENTS),
    given_capabilities=capabilities,
    said=said,
    fields=st.dictionaries(names, values, max_size=3),
)
def test_what_comes_out_has_nothing_for_the_relay_or_is_refused(
    client: ClientRequest, given_capabilities: Given, said: RelayFields, fields: JsonObject
) -> None:
    shaping = Shaping(capabilities=resolve(client.route, (given_capabilities,)), said=said)
    body = client.with_fields(**fields)
    before = dump(body)
    try:
        sent = shaped(client.route, body, shaping, codex=client.codex)
    except RequestError as error:
        assert (error.status, bool(error.message)) == (400, True)  # noqa: PT017
        return
    assert not NAMES & sent.keys()
    assert dump(body) == before, "the client's object is left alone"
    assert all(map(is_object, get_list(sent, "input")))
