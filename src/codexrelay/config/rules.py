"""Rules that no single field can state: between keys, and about where tokens go."""

from __future__ import annotations

import difflib
import ipaddress
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import attrs

from codexrelay.accounts.settings import DEFAULT_ISSUER, ManagedOAuthSettings
from codexrelay.backends.codex.settings import (
    DEFAULT_API_BASE_URL,
    CodexBackendSettings,
    CodexSettings,
)
from codexrelay.backends.openai import headers
from codexrelay.backends.openai.settings import OpenAIBackendSettings
from codexrelay.config.folders import legacy_folders
from codexrelay.config.keys import Entry, in_kind, path_of
from codexrelay.config.settings import Settings
from codexrelay.errors import Problem, RequestError
from codexrelay.profiles import find_profiles
from codexrelay.protocol.capabilities import read_parameters
from codexrelay.protocol.model_choice import EFFORTS, Others, choose
from codexrelay.protocol.model_id import FAMILY, other_named
from codexrelay.relay.reactors import find_reactors

if TYPE_CHECKING:
    from codexrelay.profiles.profile import Profile
    from codexrelay.protocol.model_choice import ModelChoice


@attrs.frozen(kw_only=True)
class Configured:
    """What all sources make together."""

    settings: Settings
    #: Full key path -> what a message calls the place its value comes from.
    places: Mapping[str, str]
    environ: Mapping[str, str]
    #: Entries of mappings that stand somewhere, empty ones too.
    entries: tuple[Entry, ...] = ()

    def blocks(self) -> Iterator[_Block]:
        """Yield all instances of the backend, the first one first."""
        for instance, codex in self.settings.backends.family:
            yield _Block(
                instance=instance,
                name=".".join(path_of(instance)),
                codex=codex,
                places=self.places,
            )

    def others(self) -> Iterator[_Other]:
        """Yield all backends of other kinds."""
        for name, block in self.settings.backends.others:
            yield _Other(name=".".join(path_of(name)), block=block, places=self.places)

    @property
    def backends(self) -> tuple[str, ...]:
        """The canonical names of all backends."""
        backends = self.settings.backends
        return tuple(name for name, _ in (*backends.family, *backends.others))

    @property
    def names(self) -> Others:
        """What names of models may say; a default that there is not is told by itself."""
        others = self.settings.others
        return others if others.default in self.backends else attrs.evolve(others, default=FAMILY)


@attrs.frozen(kw_only=True)
class _Block:
    """One instance of the backend."""

    instance: str
    #: The path of the block.
    name: str
    codex: CodexBackendSettings
    places: Mapping[str, str]

    @property
    def managed(self) -> ManagedOAuthSettings:
        return self.codex.extra.codex.managed_oauth

    @property
    def reads_auth_json(self) -> bool:
        return self.managed.allow_legacy_fallback or not self.managed.enabled

    def place(self, key: str) -> str:
        """Return what a message calls the place of a key, which is named as in the first block."""
        return self.places[self.name + key.removeprefix(_FIRST)]


@attrs.frozen(kw_only=True)
class _Other:
    """A backend of another kind."""

    #: The path of the block.
    name: str
    block: OpenAIBackendSettings
    places: Mapping[str, str]

    def place(self, key: str) -> str:
        """Return what a message calls the place of a key, which is named as in any such block."""
        return self.places[self.name + key.removeprefix(_OTHER)]


Rule: TypeAlias = Callable[[Configured], Iterator[Problem]]

_FIRST: Final = "backends.openai_codex"
_HOST: Final = "server.host"
_PORT: Final = "server.port"
_CLIENT_KEYS: Final = "server.client_keys"
_API_BASE_URL: Final = f"{_FIRST}.api_base_url"
_AUTH_PATH: Final = f"{_FIRST}.auth_path"
_WEIGHT: Final = f"{_FIRST}.weight"
_ISSUER: Final = f"{_FIRST}.extra.codex.oauth_issuer"
_MANAGED: Final = f"{_FIRST}.extra.codex.managed_oauth"
_ENABLED: Final = f"{_MANAGED}.enabled"
_STORAGE_PATH: Final = f"{_MANAGED}.storage_path"
_ACCOUNTS: Final = f"{_MANAGED}.accounts"
_LEGACY: Final = f"{_MANAGED}.allow_legacy_fallback"
_CA_FILE: Final = f"{_FIRST}.ca_file"
_AGENTS: Final = f"{_FIRST}.extra.codex.agent_capabilities"
_REACTORS: Final = f"{_FIRST}.extra.codex.tool_call_reactors"
_BYPASS: Final = "bypass_tool_call_reactor"
_DEFAULT_BYPASS: Final = f"{_FIRST}.extra.codex.default_capabilities.{_BYPASS}"
_ADAPTATIONS: Final = "profiles.adaptations"
_ALIASES: Final = "models.aliases"
_ROUTES: Final = "models.routes"
_DEFAULT_BACKEND: Final = "default_backend"
_OTHER: Final = "backends.<name>"
_OTHER_URL: Final = f"{_OTHER}.api_base_url"
_KEY_ENV: Final = f"{_OTHER}.api_key_env"
_KEY_FILE: Final = f"{_OTHER}.api_key_file"
_HEADERS: Final = f"{_OTHER}.headers"
_OTHER_MODELS: Final = f"{_OTHER}.models"
_OTHER_CA_FILE: Final = f"{_OTHER}.ca_file"
#: A name that is that of a variable and not the key itself, so that a message may repeat it.
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Headers that are the relay's own to send, with what to do instead.
_OWN_HEADERS: Final = {
    "authorization": "api_key_env or api_key_file says where the key is",
    **dict.fromkeys(headers.OURS, "the relay sends its own"),
}
#: A random key of 16 characters (base64) has 96 bits; what is shorter was made up by a person.
_GOOD_KEY_LENGTH: Final = 16
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_A: Final = {"alias": "an alias", "route": "a route"}


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on can be reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may resolve to anything
        return False


def _open_host(configured: Configured) -> Iterator[Problem]:
    server = configured.settings.server
    if not is_loopback(server.host) and not server.client_keys:
        yield Problem(
            configured.places[_HOST],
            f"{server.host} can be reached from other machines, and anyone there could use your "
            f"accounts: set {_CLIENT_KEYS}, or leave {_HOST} at 127.0.0.1",
        )


def _calls_itself(configured: Configured) -> Iterator[Problem]:
    server = configured.settings.server
    urls = [(block.codex.api_base_url, block.place(_API_BASE_URL)) for block in configured.blocks()]
    urls += [(other.block.api_base_url, other.place(_OTHER_URL)) for other in configured.others()]
    for text, place in urls:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port or _DEFAULT_PORTS[url.scheme]
        if port == server.port and (_is_here(host) or host == server.host.lower()):
            yield Problem(
                place,
                f"is the relay itself ({_HOST} and {_PORT}), which would call itself without end",
            )


def _no_account_allowed(configured: Configured) -> Iterator[Problem]:
    for block in configured.blocks():
        if block.managed.accounts == ():
            yield Problem(
                block.place(_ACCOUNTS), "an empty list allows no account: list ids, or say all"
            )


def _no_weight(configured: Configured) -> Iterator[Problem]:
    if not any(block.codex.weight for block in configured.blocks()):
        yield Problem(
            configured.places[_WEIGHT],
            "no instance takes turns that name none: give one a weight above 0",
        )


def _no_auth_json(configured: Configured) -> Iterator[Problem]:
    for block in configured.blocks():
        if block.name != _FIRST and block.reads_auth_json and block.codex.auth_path is None:
            yield Problem(
                block.place(_AUTH_PATH),
                f"needed, since {block.name} may use Codex CLI's auth.json, and only that of "
                f"{_FIRST} is looked for elsewhere",
            )


def _shared_store(configured: Configured) -> Iterator[Problem]:
    for one, other in itertools.combinations(configured.blocks(), 2):
        folder = other.managed.storage_path
        if (
            (one.managed.enabled and other.managed.enabled)
            and os.path.realpath(one.managed.storage_path) == os.path.realpath(folder)
            and _overlap(one.managed.accounts, other.managed.accounts)
        ):
            yield Problem(
                other.place(_STORAGE_PATH),
                f"{folder} is the store of {one.name} too, and no account may serve both: "
                "name another folder, or give each a list of accounts of its own",
            )


def _shared_auth_json(configured: Configured) -> Iterator[Problem]:
    readers = [block for block in configured.blocks() if block.reads_auth_json]
    for one, other in itertools.combinations(readers, 2):
        known = {os.path.realpath(folder) for folder in _legacy_folders(configured, one)}
        for folder in _legacy_folders(configured, other):
            if os.path.realpath(folder) in known:
                yield Problem(
                    other.place(_AUTH_PATH),
                    f"the auth.json in {folder} may be used by {one.name} too, and no account may "
                    "serve both: name another folder, or set allow_legacy_fallback to false there",
                )


def _no_ca_file(configured: Configured) -> Iterator[Problem]:
    for block in configured.blocks():
        ca_file = block.codex.ca_file
        if ca_file is not None and not Path(ca_file).is_file():
            yield Problem(block.place(_CA_FILE), f"there is no file {ca_file}")
    for other in configured.others():
        ca_file = other.block.ca_file
        if ca_file is not None and not Path(ca_file).is_file():
            yield Problem(other.place(_OTHER_CA_FILE), f"there is no file {ca_file}")


def _misplaced_key(configured: Configured) -> Iterator[Problem]:
    # No message repeats what may be the key itself, written in the wrong place.
    for other in configured.others():
        variable, file = other.block.api_key_env, other.block.api_key_file
        if variable is not None and file is not None:
            yield Problem(
                other.place(_KEY_FILE), "stands beside api_key_env, and a backend has one key"
            )
        elif variable is not None and not _VARIABLE.fullmatch(variable):
            yield Problem(
                other.place(_KEY_ENV),
                "must be the name of a variable, in capitals, such as LOCAL_API_KEY: it holds the "
                "key, which stands in no configuration",
            )


def _key_not_there(configured: Configured) -> Iterator[Problem]:
    for other in configured.others():
        variable, file = other.block.api_key_env, other.block.api_key_file
        if variable is not None and file is None and _VARIABLE.fullmatch(variable):
            if not configured.environ.get(variable, "").strip():
                told = "is empty" if variable in configured.environ else "is not set"
                yield Problem(
                    other.place(_KEY_ENV),
                    f"the variable {variable} {told}: set it to the key, or leave api_key_env out "
                    "if the backend wants none",
                )
        elif file is not None and variable is None and not Path(file).is_file():
            yield Problem(other.place(_KEY_FILE), "there is no such file")


def _bad_header(configured: Configured) -> Iterator[Problem]:
    for other in configured.others():
        for name, value in other.block.headers.items():
            place = other.place(f"{_HEADERS}.{name}")
            if name in _OWN_HEADERS:
                yield Problem(place, f"is none to write here: {_OWN_HEADERS[name]}")
            elif not _HEADER.fullmatch(name):
                yield Problem(place, "no header may be called so: letters, digits and `-` do")
            elif not (value.isascii() and value.isprintable()) or value.strip() != value:
                yield Problem(
                    place, "must be plain printable characters (ASCII) without blanks around them"
                )


def _unknown_default(configured: Configured) -> Iterator[Problem]:
    name = configured.settings.default_backend
    if problem := _unknown("backend", name, configured.backends):
        yield Problem(configured.places[_DEFAULT_BACKEND], problem)


def _unknown_profile(configured: Configured) -> Iterator[Problem]:
    for entry in configured.entries:
        *mapping, name = in_kind(entry.path)
        if ".".join(mapping) == _AGENTS and (problem := _unknown("profile", name, find_profiles())):
            yield Problem(entry.where, problem)


def _unknown_reactor(configured: Configured) -> Iterator[Problem]:
    for block in configured.blocks():
        names = block.codex.extra.codex.tool_call_reactors
        # Nothing is looked for in vain: finding reactors means importing them.
        known = find_reactors() if names != CodexSettings().tool_call_reactors else names
        for name in names:
            if problem := _unknown("reactor", name, known):
                yield Problem(block.place(_REACTORS), problem)


def _unknown_adaptation(configured: Configured) -> Iterator[Problem]:
    known = {
        f"{profile.name}.{name}"
        for profile in find_profiles().values()
        for name in profile.adaptations
    }
    for name in configured.settings.profiles.adaptations:
        if _plain(name) not in known and (problem := _unknown("adaptation", name, known)):
            yield Problem(configured.places[_ADAPTATIONS], problem)


def _bad_alias(configured: Configured) -> Iterator[Problem]:
    taken: dict[str, str] = {}
    for alias, model in configured.settings.models.aliases.items():
        problem = _wrong_with("alias", alias, taken) or _wrong_meaning(alias, model, configured)
        if problem:
            yield Problem(configured.places[f"{_ALIASES}.{alias}"], problem)
        taken.setdefault(alias.lower(), alias)


def _bad_route(configured: Configured) -> Iterator[Problem]:
    models = configured.settings.models
    aliases, taken = {alias.lower(): alias for alias in models.aliases}, dict[str, str]()
    for route, meant in models.routes.items():
        if alias := aliases.get(route.lower()):
            problem: str | None = f"{alias} is an alias too: give one of them another name"
        elif not meant:
            problem = "an empty list leads nowhere: name a model, or leave the route out"
        else:
            wrong = (_wrong_meaning(route, model, configured) for model in meant)
            problem = _wrong_with("route", route, taken) or next(filter(None, wrong), None)
        if problem:
            yield Problem(configured.places[f"{_ROUTES}.{route}"], problem)
        taken.setdefault(route.lower(), route)


def _wrong_with(kind: str, name: str, taken: Mapping[str, str]) -> str | None:
    if not name:
        return f"{_A[kind]} needs a name"
    if "?" in name:
        return f"no {kind} has a `?` in its name: parameters stand behind what it means"
    if name.lower() in taken:
        return f"{taken[name.lower()]} is the same {kind}: case does not matter"
    return None


def _wrong_meaning(name: str, model: str, configured: Configured) -> str | None:
    """Return what is wrong with what an alias or a route stands for."""
    try:
        meant = choose(model, aliases={}, known=(), others=configured.names)
        read_parameters(meant.capabilities)
    except RequestError as error:
        return str(error)
    if not meant.slug.strip():
        return f"names no model: write one before the `?`, as in gpt-5.5{model}"
    if meant.slug.endswith((":", "/")):
        return f"{meant.slug} is the name of a backend with no model behind it: write one there"
    prefix, colon, _ = meant.slug.partition(":")
    if meant.instance is None and colon and other_named(prefix):  # no model of Codex is called so
        return _unknown("backend", prefix, configured.backends)
    if meant.instance is not None and (
        problem := _unknown("backend", meant.instance, configured.backends)
    ):
        return problem
    named = _looked_up(model.partition("?")[0], meant, configured) - {name.lower()}
    models = configured.settings.models
    for kind, names in (("alias", models.aliases), ("route", models.routes)):
        for other in names:
            if other.lower() in named:
                return (
                    f"{other} is {_A[kind]} too, and what {_A[kind]} means is not looked up among "
                    "them again: write what it means"
                )
    return None


def _looked_up(whole: str, meant: ModelChoice, configured: Configured) -> set[str]:
    """Return under which names, in lower case, its writer may have thought that it is found."""
    if meant.instance in dict(configured.settings.backends.others):
        return {whole.lower()}  # behind a backend of another kind there are none
    rest, _, effort = meant.slug.rpartition("-")
    return {whole.lower(), meant.slug.lower(), rest.lower() if effort in EFFORTS else ""}


def _idle_adaptation(configured: Configured) -> Iterator[Problem]:
    for name in configured.settings.profiles.adaptations:
        profile = find_profiles().get(_plain(name).partition(".")[0])
        if profile is not None and all(_bypasses(block, profile) for block in configured.blocks()):
            yield Problem(
                configured.places[_ADAPTATIONS],
                f"{name} does nothing unless a request asks for it: bypass_tool_call_reactor is "
                f"true; set it to false in agent_capabilities.{profile.name}",
            )


def _bypasses(block: _Block, profile: Profile) -> bool:
    """Return whether the tool calls of a profile's requests are left alone by default."""
    codex = block.codex.extra.codex
    bypass = codex.agent_capabilities.get(profile.name, {}).get(_BYPASS)
    if bypass is None:
        bypass = codex.default_capabilities.bypass_tool_call_reactor
    return bool(profile.capabilities.get(_BYPASS, True) if bypass is None else bypass)


def _short_client_key(configured: Configured) -> Iterator[Problem]:
    for number, key in enumerate(configured.settings.server.client_keys, start=1):
        if len(key) < _GOOD_KEY_LENGTH:
            yield Problem(
                configured.places[_CLIENT_KEYS],
                f"key {number} is shorter than {_GOOD_KEY_LENGTH} characters and may be guessed",
            )


def _foreign_backend(configured: Configured) -> Iterator[Problem]:
    for block in configured.blocks():
        url = block.codex.api_base_url
        if _origin(url) != _origin(DEFAULT_API_BASE_URL):
            yield Problem(
                block.place(_API_BASE_URL),
                f"access tokens go to {_origin(url)}, not to {_origin(DEFAULT_API_BASE_URL)}",
            )


def _open_to_listeners(configured: Configured) -> Iterator[Problem]:
    for other in configured.others():
        block, url = other.block, urlsplit(other.block.api_base_url)
        secrets = [
            told
            for told, given in (
                ("its API key", block.api_key_env or block.api_key_file),
                ("its headers", block.headers),
            )
            if given
        ]
        if secrets and url.scheme == "http" and not _is_here(url.hostname or ""):
            yield Problem(
                other.place(_OTHER_URL),
                f"{' and '.join(secrets)} go to {_origin(block.api_base_url)} without encryption, "
                "and so does all that is said: use https if you can",
            )


def _foreign_issuer(configured: Configured) -> Iterator[Problem]:
    for block in configured.blocks():
        url = block.codex.extra.codex.oauth_issuer
        if _origin(url) != _origin(DEFAULT_ISSUER):
            yield Problem(
                block.place(_ISSUER),
                f"refresh tokens go to {_origin(url)}, not to {_origin(DEFAULT_ISSUER)}",
            )


#: Rule -> the keys it reads, named as in the block that stands for all of its kind; it is asked
#: only when all of them are sound, in every block.
PROBLEM_RULES: Final[Mapping[Rule, tuple[str, ...]]] = {
    _open_host: (_HOST, _CLIENT_KEYS),
    _calls_itself: (_HOST, _PORT, _API_BASE_URL, _OTHER_URL),
    _no_account_allowed: (_ACCOUNTS,),
    _no_weight: (_WEIGHT,),
    _no_auth_json: (_AUTH_PATH, _ENABLED, _LEGACY),
    _shared_store: (_STORAGE_PATH, _ENABLED, _ACCOUNTS),
    _shared_auth_json: (_AUTH_PATH, _ENABLED, _LEGACY),
    _no_ca_file: (_CA_FILE, _OTHER_CA_FILE),
    _misplaced_key: (_KEY_ENV, _KEY_FILE),
    _bad_header: (_HEADERS,),
    _unknown_default: (_DEFAULT_BACKEND,),
    _unknown_profile: (_AGENTS,),
    _unknown_reactor: (_REACTORS,),
    _unknown_adaptation: (_ADAPTATIONS,),
    _bad_alias: (_ALIASES, _ROUTES, _DEFAULT_BACKEND, _OTHER_MODELS),
    _bad_route: (_ALIASES, _ROUTES, _DEFAULT_BACKEND, _OTHER_MODELS),
}
#: Problems for who starts a relay. All others need not have its environment, and are warned.
START_RULES: Final[Mapping[Rule, tuple[str, ...]]] = {
    _key_not_there: (_KEY_ENV, _KEY_FILE),
}
WARNING_RULES: Final[Mapping[Rule, tuple[str, ...]]] = {
    _short_client_key: (_CLIENT_KEYS,),
    _idle_adaptation: (_ADAPTATIONS, _AGENTS, _DEFAULT_BYPASS),
    _foreign_backend: (_API_BASE_URL,),
    _foreign_issuer: (_ISSUER,),
    _open_to_listeners: (_OTHER_URL, _KEY_ENV, _KEY_FILE, _HEADERS),
}


def _is_here(host: str) -> bool:
    """Return whether a host to connect to is this machine."""
    if is_loopback(host) or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address.is_unspecified or (mapped is not None and mapped.is_loopback)


def _plain(name: str) -> str:
    """Return a name of a profile or an adaptation as the profiles have it."""
    return name.lower().replace("-", "_")


def _unknown(kind: str, name: str, known: Collection[str]) -> str | None:
    """Return what to say about a name that nothing here has."""
    if name in known:
        return None
    alike = difflib.get_close_matches(name, known, n=1)
    there = f"did you mean {alike[0]}?" if alike else f"known: {', '.join(sorted(known)) or 'none'}"
    return f"there is no {kind} {name}; {there}"


def _overlap(
    one: Literal["all"] | tuple[str, ...], other: Literal["all"] | tuple[str, ...]
) -> bool:
    return one == "all" or other == "all" or not set(one).isdisjoint(other)


def _legacy_folders(configured: Configured, block: _Block) -> tuple[Path, ...]:
    return legacy_folders(configured.settings, configured.environ, instance=block.instance)


def _origin(url: str) -> str:
    """Return scheme, host and port, without a password the URL may hold."""
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    return f"{scheme}://{authority.rpartition('@')[2]}".lower()
