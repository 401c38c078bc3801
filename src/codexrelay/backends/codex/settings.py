"""Settings of one Codex backend: `backends.openai_codex`, `backends.openai_codex.2` and so on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import attrs

from codexrelay.accounts.settings import DEFAULT_ISSUER, ManagedOAuthSettings
from codexrelay.backends.settings import BudgetSettings, is_base_url, is_proxy
from codexrelay.setting import section, setting

DEFAULT_API_BASE_URL: Final = "https://chatgpt.com/backend-api/codex"

#: Kinds of tools that the client itself answers, hence are called by a name.
_NAMED_TOOLS: Final = frozenset({"function", "custom"})


def _plain_format(given: str | None) -> str | None:
    """Return a format under the one name that the rest of the relay knows."""
    return None if given is None else {"codex_xml": "xml", "inherit": "default"}.get(given, given)


def _are_tools(
    _instance: object, _field: attrs.Attribute[Any], value: tuple[Mapping[str, Any], ...]
) -> None:
    """Raises ValueError: one of them is no tool in the Responses form."""
    names: set[str] = set()
    for number, tool in enumerate(value, start=1):
        kind, name = tool.get("type"), tool.get("name")
        if not (isinstance(kind, str) and kind):
            raise ValueError(f"tool {number} has no type: `function`, `custom` or another one")
        if kind not in _NAMED_TOOLS:
            continue
        if not (isinstance(name, str) and name):
            nested = " (the chat form nests it in `function`)" if "function" in tool else ""
            raise ValueError(f"tool {number} has no name, which a {kind} tool needs{nested}")
        if name in names:
            raise ValueError(f"tool {number} has a name that stands there already: {name}")
        names.add(name)


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"]
Verbosity = Literal["low", "medium", "high"]


@attrs.frozen(kw_only=True)
class CapabilitySettings:
    """`extra.codex.default_capabilities`; null leaves a key to what is below it.

    What each one does stands in `protocol/capabilities.py`.
    """

    protocol: Literal["openai-chat", "openai-responses"] | None = setting(
        None,
        """
        From which shape the call to the backend is derived, and whose rules a request must keep;
        null: that of the route that the client called.
        """,
        live=True,
    )
    codex_passthrough: bool | None = setting(
        None,
        """
        On /v1/responses. true: the body goes on as it came, but for what the backend demands;
        false: it is rebuilt from the fields that the relay knows. null: true when protocol is
        openai-responses.
        """,
        live=True,
    )
    prompt_mode: Literal["codex_default", "merge_custom", "custom_only"] | None = setting(
        None,
        """
        What becomes of the client's system text:
        - codex_default (what null means): the instructions are the default text (prompt, below),
        and the client's system text comes first in the conversation.
        - merge_custom: the instructions are both, the default text first.
        - custom_only: the instructions are the client's system text alone.
        """,
        live=True,
    )
    tool_schema_mode: Literal["custom_only", "merge_custom", "codex_default"] | None = setting(
        None,
        """
        Which tools the model is offered:
        - custom_only (what null means): the client's, and custom_tools (below).
        - merge_custom: the built-in ones (base_tools, below) too; of two with one name, the
        client's.
        - codex_default: the built-in ones alone.
        """,
        live=True,
    )
    tool_text_format: (
        Literal["none", "xml", "codex_xml", "markdown", "summary", "default", "inherit"] | None
    ) = setting(
        None,
        """
        For clients that know no tool calls: write calls into the answer's text in this form. none
        (what null means): calls stay calls. codex_xml is another name of xml; default, or
        inherit, is what renderer.default says.
        """,
        converter=_plain_format,
        live=True,
    )
    bypass_tool_call_reactor: bool | None = setting(
        None,
        """
        true (what null means): tool calls reach the client as the model made them. false:
        tool_call_reactors (below) see them and may veto, and profiles.adaptations act. The relay
        never runs a tool.
        """,
        live=True,
    )
    include_environment_context: bool | None = setting(
        None,
        """
        true: add one message with the folder, policies and shell that the request itself tells;
        nothing is taken from this machine. false (what null means): add nothing.
        """,
        live=True,
    )


@attrs.frozen(kw_only=True)
class PromptSettings:
    """`extra.codex.prompt`: the text that `prompt_mode` speaks of."""

    template: str | None = setting(
        None,
        "The default text; null: a short one of the relay's own.",
        variables=("OPENAI_CODEX_PROMPT_TEMPLATE",),
        live=True,
    )
    prepend: tuple[str, ...] = setting(
        (),
        """
        What stands before all other instructions, section by section. A variable or flag: a JSON
        array of texts, or one text, commas and all.
        """,
        one_will_do=True,
        variables=("OPENAI_CODEX_PROMPT_PREPEND",),
        live=True,
    )
    append: tuple[str, ...] = setting(
        (),
        "What stands behind all other instructions, section by section; given as prepend is.",
        one_will_do=True,
        variables=("OPENAI_CODEX_PROMPT_APPEND",),
        live=True,
    )
    deduplicate: bool = setting(
        True,
        "Leave out a section that stands there already, word for word.",
        variables=("OPENAI_CODEX_PROMPT_DEDUPLICATE",),
        live=True,
    )
    fallback_to_default: bool = setting(
        True,
        "Where custom_only has nothing to say, say the default text rather than nothing.",
        variables=("OPENAI_CODEX_PROMPT_FALLBACK_DEFAULT",),
        live=True,
    )


@attrs.frozen(kw_only=True)
class ToolSchemaSettings:
    """`extra.codex.tool_schema`: tools in the Responses form."""

    base_tools: tuple[Mapping[str, Any], ...] | None = setting(
        None,
        "The built-in tools that tool_schema_mode speaks of; null: the relay's own.",
        check=_are_tools,
        variables=("OPENAI_CODEX_TOOL_SCHEMA_BASE",),
        live=True,
    )
    custom_tools: tuple[Mapping[str, Any], ...] = setting(
        (),
        """
        Tools that are offered besides the client's where their names are free. The client is who
        is asked to run them.
        """,
        check=_are_tools,
        variables=("OPENAI_CODEX_TOOL_SCHEMA_CUSTOM",),
        live=True,
    )


@attrs.frozen(kw_only=True)
class RendererSettings:
    """`extra.codex.renderer`."""

    default: Literal["none", "xml", "markdown", "summary"] = setting(
        "none",
        "What tool_text_format means by default and inherit.",
        variables=("OPENAI_CODEX_RENDERER_DEFAULT",),
        live=True,
    )


@attrs.frozen(kw_only=True)
class ModelCatalogSettings:
    """`extra.codex.model_catalog`."""

    discovery_enabled: bool = setting(
        True,
        "Ask the backend which models there are; false: the list below is all there is.",
        variables=("OPENAI_CODEX_MODEL_CATALOG_DISCOVERY_ENABLED",),
    )
    fallback_path: str | None = setting(
        None,
        """
        A list of models in the backend's own form, for as long as it has not answered; null: the
        one in the package.
        """,
        path="file",
        variables=("OPENAI_CODEX_MODEL_CATALOG_FALLBACK_PATH",),
    )
    discovery_timeout_seconds: float = setting(
        10.0,
        "Seconds that the backend is given to answer.",
        above=0,
        variables=("OPENAI_CODEX_MODEL_CATALOG_DISCOVERY_TIMEOUT_SECONDS",),
    )


@attrs.frozen(kw_only=True)
class CodexSettings:
    """`extra.codex`: what belongs to Codex alone."""

    oauth_issuer: str = setting(
        DEFAULT_ISSUER,
        "The sign-in service; tokens are refreshed at {oauth_issuer}/oauth/token.",
        check=is_base_url,
        url=True,
    )
    managed_oauth: ManagedOAuthSettings = section(
        ManagedOAuthSettings, "The accounts, kept as one JSON file each."
    )
    default_capabilities: CapabilitySettings = section(
        CapabilitySettings,
        """
        What is done to a request. null leaves a key to the profile of the client, and then to what
        is said here. A request may say otherwise (codex_capabilities in its body, parameters of the
        model's name). The variable is a JSON object with some of these keys.
        """,
        variables=("OPENAI_CODEX_DEFAULT_CAPABILITIES",),
    )
    agent_capabilities: Mapping[str, Mapping[str, Any]] = setting(
        {},
        """
        The same for single client programs, by profile; beats the above. For example
        {droid: {prompt_mode: merge_custom}}.
        """,
        entries=CapabilitySettings,
        variables=("OPENAI_CODEX_AGENT_CAPABILITIES",),
        live=True,
    )
    prompt: PromptSettings = section(PromptSettings, "The texts that prompt_mode speaks of.")
    tool_schema: ToolSchemaSettings = section(
        ToolSchemaSettings, "The tools that tool_schema_mode speaks of, in the Responses form."
    )
    renderer: RendererSettings = section(RendererSettings, "Tool calls as text.")
    tool_call_reactors: tuple[str, ...] = setting(
        ("log",),
        """
        Which reactors see tool calls where bypass_tool_call_reactor is false. log: writes their
        names into the log.
        """,
        live=True,
    )
    model_catalog: ModelCatalogSettings = section(
        ModelCatalogSettings, "Where the list of models comes from."
    )


@attrs.frozen(kw_only=True)
class ExtraSettings:
    """`extra`."""

    reasoning_effort: Effort | None = setting(
        None,
        "Effort for requests that ask for none, neither in the body nor in the model's name.",
        live=True,
    )
    verbosity: Verbosity | None = setting(
        None, "Verbosity of texts for requests that ask for none.", live=True
    )
    codex: CodexSettings = section(CodexSettings, "What belongs to Codex alone.")


@attrs.frozen(kw_only=True)
class CodexBackendSettings:
    """`backends.openai_codex`, and each further instance of it."""

    type: Literal["openai-codex"] = setting("openai-codex", "The kind of backend.")
    api_base_url: str = setting(
        DEFAULT_API_BASE_URL,
        "Where the backend is; /responses, /responses/compact and /models are appended.",
        check=is_base_url,
        url=True,
        variables=("OPENAI_API_BASE_URL",),
    )
    timeout: float = setting(
        120.0,
        "Seconds of upstream silence that end a turn; budgets.silence_s overrides it.",
        above=0,
        live=True,
    )
    auth_path: str | None = setting(
        None,
        "Folder that holds Codex CLI's auth.json; null: CODEX_HOME, then ~/.codex.",
        path="folder",
        variables=("OPENAI_CODEX_PATH",),
    )
    transport: Literal["direct", "httpx"] = setting(
        "direct",
        "How bytes reach the backend. direct: the relay's own, the fastest; httpx: that of httpx.",
    )
    proxy: str | None = setting(
        None,
        """
        Proxy on the way to the backend and the sign-in service. null: what the environment says
        (HTTPS_PROXY and the like, never for this machine); none: no proxy, whatever it says.
        """,
        check=is_proxy,
        url=True,
    )
    ca_file: str | None = setting(
        None,
        """
        Certificates (PEM) that are trusted besides the usual ones, such as a company's own. What
        SSL_CERT_FILE names takes the place of the usual ones, as it does for every program.
        """,
        path="file",
        variables=("CODEX_CA_CERTIFICATE",),
    )
    websocket: Literal["auto", "on", "off"] = setting(
        "auto",
        """
        Which turns go to the backend over a WebSocket, as Codex CLI's own do. auto: those whose
        client speaks WebSocket itself; on: all of them; off: none. Where no WebSocket can be had, a
        turn goes over HTTP, unseen by its client.
        """,
        variables=("OPENAI_CODEX_WEBSOCKET",),
        live=True,
    )
    identity: Literal["codex", "relay", "client"] = setting(
        "codex",
        """
        Who the relay says it is. codex: Codex CLI; relay: codexrelay; client: what a client that is
        Codex CLI says itself, otherwise as codex.
        """,
        live=True,
    )
    weight: int = setting(
        1,
        """
        Share of the turns that name no instance, relative to the weights of the other instances
        (below); 0: only turns that ask for this one by its name.
        """,
        at_least=0,
        live=True,
    )
    budgets: BudgetSettings = section(
        BudgetSettings,
        "How long each phase of a turn may take; the error says which one was over.",
    )
    extra: ExtraSettings = section(ExtraSettings, "What is asked of the models, and the accounts.")
