"""Whatever is asked of a request, its texts arrive and nothing of the relay's goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codexrelay.errors import RequestError
from codexrelay.protocol.capabilities import KEYS, resolve
from codexrelay.protocol.chat_request import translate
from codexrelay.protocol.raw import dump, get_list, is_object
from codexrelay.protocol.relay_fields import (
    ENVIRONMENT,
    ENVIRONMENT_BLOCK,
    NAMES,
    RelayFields,
    split,
)
from codexrelay.protocol.responses_request import shape
from codexrelay.protocol.shaping import Shaping
from harness.simulator.checks import UNSUPPORTED
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
    [
        *("instructions", "input", "messages", "tools", "tool_choice", "reasoning", "text", "new"),
        *("include", "store", "client_metadata", "service_tier", "background", "stream_options"),
        *("metadata", "user", "max_tokens", "truncation", "stop", "n", "prompt_cache_key"),
    ]
)
#: Nothing but the relay's own fields holds it.
SECRET = "s3cr3t"
#: What may be said to the relay, each with the secret where it is free to say anything.
for_the_relay: st.SearchStrategy[JsonObject] = st.fixed_dictionaries(
    {},
    optional={
        "codex_capabilities": capabilities,
        "codex_system_prompt": st.sampled_from([SECRET, [SECRET, f"{SECRET} 2"]]),
        ENVIRONMENT_BLOCK: st.just(SECRET),
        **dict.fromkeys(ENVIRONMENT, st.just(SECRET)),
    },
)
#: What the backend is sent of a request that was built from what is known of it.
KNOWN = {
    *("model", "instructions", "input", "tools", "tool_choice", "parallel_tool_calls", "reasoning"),
    *("store", "stream", "include", "prompt_cache_key", "text", "service_tier"),
}
KNOWN_TO_RESPONSES = {*KNOWN, "client_metadata", "stream_options"}


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


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(
    client=st.sampled_from(CLIENTS),
    fields=st.dictionaries(names, values, max_size=3),
    top=for_the_relay,
    extra=for_the_relay,
    beside=st.dictionaries(names, values, max_size=2),
)
def test_what_comes_out_has_nothing_for_the_relay_or_is_refused(
    client: ClientRequest,
    fields: JsonObject,
    top: JsonObject,
    extra: JsonObject,
    beside: JsonObject,
) -> None:
    body = client.with_fields(**fields) | top | {"extra_body": beside | extra}
    before = dump(body)
    try:
        rest, said = split(body)
        shaping = Shaping(capabilities=resolve(client.route, said.capabilities), said=said)
        sent = shaped(client.route, rest, shaping, codex=client.codex)
    except RequestError as error:
        assert (error.status, bool(error.message)) == (400, True)  # noqa: PT017
        return
    finally:
        assert dump(body) == before, "the client's object is left alone"
    assert all(map(is_object, get_list(sent, "input")))
    assert not NAMES & sent.keys()
    own = set(UNSUPPORTED) - {"messages"}  # a name of another protocol: the backend's to refuse
    assert not own & sent.keys()
    asked = shaping.capabilities
    is_chat = client.route == "openai-chat"
    if is_chat or not asked.codex_passthrough:
        as_chat = asked.protocol == "openai-chat"
        assert sent.keys() <= (KNOWN if as_chat else KNOWN_TO_RESPONSES)
    # The secret is where its sender wants it, and nowhere else.
    elsewhere = {key: value for key, value in sent.items() if key not in ("instructions", "input")}
    assert SECRET.encode() not in dump(elsewhere)
    told = sum(SECRET in text for text in everything_said(sent))
    wanted = bool(said.system_prompt) or (
        asked.include_environment_context and bool(said.environment)
    )
    assert (told > 0) is wanted
