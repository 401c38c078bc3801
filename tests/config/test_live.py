"""The configuration of a running relay: when it is read again, and what becomes of it."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from structlog.typing import EventDict
from trio.testing import MockClock

from codexrelay.config.live import (
    LOOK_S,
    REST_S,
    Live,
    Refused,
    Reloaded,
    Seen,
    Sources,
    Watch,
    mark_of,
    reread,
)
from codexrelay.config.settings import Settings
from codexrelay.errors import ConfigError
from tests.fakes.cancel_at_step import CancelAtStep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from codexrelay.config.live import Mark
    from codexrelay.config.loading import Loaded

#: Long enough for no warning.
_KEY = "a-client-key-of-some-length"


def sources(
    file: Path | None, *, environ: Mapping[str, str] | None = None, **flags: object
) -> Sources:
    given = {name.replace("__", "."): value for name, value in flags.items()}
    return Sources(config_path=file, environ=environ or {}, flags=given)


def changed_from(
    file: Path,
    before: str,
    after: str,
    *,
    environ: Mapping[str, str] | None = None,
    **flags: object,
) -> Reloaded | Refused:
    """Load one text, then read the file again with the other in it."""
    file.write_text(before)
    wanted = sources(file, environ=environ, **flags)
    live = Live.load(wanted)
    file.write_text(after)
    return reread(wanted, live.settings)


def reloaded_from(
    file: Path,
    before: str,
    after: str,
    *,
    environ: Mapping[str, str] | None = None,
    **flags: object,
) -> Reloaded:
    result = changed_from(file, before, after, environ=environ, **flags)
    assert isinstance(result, Reloaded)
    return result


def write(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


# What becomes of a new configuration.


def test_what_can_change_changes_and_the_rest_keeps_its_old_value(file: Path) -> None:
    result = reloaded_from(
        file,
        "server: {port: 1, keep_alive_s: 1}",
        "server: {port: 2, keep_alive_s: 2}\nmodels: {aliases: {fast: gpt-5.5}}",
    )
    assert result.changed == ("server.keep_alive_s", "models.aliases")
    assert result.held == ("server.port",)
    assert (result.settings.server.port, result.settings.server.keep_alive_s) == (1, 2.0)
    assert result.settings.models.aliases == {"fast": "gpt-5.5"}


def test_a_key_that_is_gone_has_its_default_again(file: Path) -> None:
    result = reloaded_from(file, "server: {keep_alive_s: 1}", "models: {strict: false}")
    assert result.changed == ("server.keep_alive_s",)
    assert result.settings.server.keep_alive_s == 15.0


def test_flags_and_the_environment_of_the_start_still_win(file: Path) -> None:
    variable = "OPENAI_CODEX_MANAGED_OAUTH_MAX_CONCURRENT_TURNS"
    path = "backends: {openai_codex: {extra: {codex: {managed_oauth: {max_concurrent_turns: %d}}}}}"
    result = reloaded_from(
        file,
        "server: {keep_alive_s: 1}\n" + path % 1,
        "server: {keep_alive_s: 2}\n" + path % 2,
        environ={variable: "7"},
        server__keep_alive_s="9",
    )
    assert result == Reloaded(settings=result.settings, changed=(), held=())
    managed = result.settings.backends.openai_codex.extra.codex.managed_oauth
    assert (managed.max_concurrent_turns, result.settings.server.keep_alive_s) == (7, 9.0)


def test_a_file_that_cannot_be_used_is_refused_as_a_whole_with_all_problems(file: Path) -> None:
    result = changed_from(
        file,
        "server: {keep_alive_s: 1}",
        "server:\n  keep_alive_s: 2\n  max_body_bytes: 0\n  prot: 1\n",
    )
    assert isinstance(result, Refused)
    told = str(result)
    assert "\n" not in told
    assert f"server.max_body_bytes ({file}:3): must be >= 1" in told
    assert f"server.prot ({file}:4): unknown key; did you mean server.port?" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("server: {", "is not valid YAML"),
        ("[" * 1200, "is nested too deeply"),
        ('server: {host: "\\UFFFFFFFF"}', "stands for no character"),
        ("server: 1", "must be a mapping"),
        (None, "cannot be read"),
    ],
    ids=["half a file", "nested without end", "no character", "no mapping", "no file"],
)
def test_what_is_no_configuration_at_all_is_refused_too(
    file: Path, text: str | None, told: str
) -> None:
    file.write_text("")
    live = Live.load(sources(file))
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    result = reread(live.sources, live.settings)
    assert isinstance(result, Refused)
    assert told in str(result)


def test_what_would_be_in_force_is_judged_and_not_the_file_alone(file: Path) -> None:
    # The file is sound, but the relay goes on listening where everybody can reach it.
    result = changed_from(
        file,
        f"server: {{host: 0.0.0.0, client_keys: [{_KEY}]}}",
        "server: {host: 127.0.0.1}",
    )
    assert isinstance(result, Refused)
    assert str(result) == (
        "server.host: 0.0.0.0 can be reached from other machines, and anyone there could use your "
        "accounts: set server.client_keys, or leave server.host at 127.0.0.1; "
        "server.host: old until a restart, which the rest does not fit: restart the relay"
    )


_KEYED = f"server: {{keep_alive_s: 1, client_keys: [{_KEY}]}}"


@pytest.mark.parametrize("text", ["", "# nothing\n---\n", "server: {}"])
def test_a_file_without_a_key_is_one_that_somebody_is_writing(file: Path, text: str) -> None:
    result = changed_from(file, "server: {keep_alive_s: 1}", text)
    assert str(result) == f"{file}: is empty; for the defaults, start the relay again"


def test_a_file_without_a_key_that_changes_nothing_is_no_mistake(file: Path) -> None:
    assert reloaded_from(file, "", "server: {}").changed == ()


def test_client_keys_do_not_go_because_they_are_not_mentioned_any_more(file: Path) -> None:
    result = changed_from(file, _KEYED, "server: {keep_alive_s: 2}")
    assert str(result) == (
        "server.client_keys: is gone, and any key would do: write client_keys: [] if that is what "
        "you want"
    )


def test_client_keys_go_when_the_file_says_so(file: Path) -> None:
    result = reloaded_from(file, _KEYED, "server: {keep_alive_s: 1, client_keys: []}")
    assert (result.changed, result.settings.server.client_keys) == (("server.client_keys",), ())


def test_client_keys_of_a_flag_need_no_mention(file: Path) -> None:
    result = reloaded_from(
        file, "server: {keep_alive_s: 1}", "server: {keep_alive_s: 2}", server__client_keys=_KEY
    )
    assert result.changed == ("server.keep_alive_s",)


_SECOND = "openai_codex.2: {auth_path: /nowhere, weight: %d}"


def test_a_further_block_is_changed_by_itself_and_with_the_first_one(file: Path) -> None:
    result = reloaded_from(
        file,
        f"backends: {{openai_codex: {{timeout: 5}}, {_SECOND % 1}}}",
        f"backends: {{openai_codex: {{timeout: 6}}, {_SECOND % 3}}}",
    )
    [(name, second)] = result.settings.backends.further
    assert (name, second.timeout, second.weight) == ("openai-codex.2", 6.0, 3)
    assert result.changed == (
        "backends.openai_codex.timeout",
        "backends.openai_codex.2.timeout",
        "backends.openai_codex.2.weight",
    )


@pytest.mark.parametrize("comes", [True, False], ids=["comes", "goes"])
def test_a_block_that_comes_or_goes_waits_for_a_restart(file: Path, comes: bool) -> None:
    one, two = "backends: {openai_codex: {}}", f"backends: {{openai_codex: {{}}, {_SECOND % 1}}}"
    before, after = (one, two) if comes else (two, one)
    result = reloaded_from(file, before, f"{after}\nserver: {{keep_alive_s: 2}}")
    assert result.held == ("backends.openai_codex.2",)
    assert result.changed == ("server.keep_alive_s",)
    assert len(result.settings.backends.further) == (0 if comes else 1)


_LOCAL = "local: {type: openai, api_base_url: 'http://127.0.0.1:%d/v1'%s}"


def test_a_backend_of_another_kind_takes_over_what_can_change(file: Path) -> None:
    result = reloaded_from(
        file,
        f"backends: {{{_LOCAL % (1, ', timeout: 5, headers: {x-key: hunter2}')}}}",
        f"backends: {{{_LOCAL % (2, ', timeout: 6, models: [a], budgets: {turn_s: 9}')}}}",
    )
    [(name, block)] = result.settings.backends.others
    assert (name, block.timeout, block.models, block.budgets.turn_s) == ("local", 6.0, ("a",), 9.0)
    assert block.api_base_url == "http://127.0.0.1:1/v1"
    assert result.changed == (
        "backends.local.models",
        "backends.local.timeout",
        "backends.local.budgets.turn_s",
    )
    assert result.held == ("backends.local.api_base_url", "backends.local.headers")


@pytest.mark.parametrize("comes", [True, False], ids=["comes", "goes"])
def test_a_backend_of_another_kind_that_comes_or_goes_waits_for_a_restart(
    file: Path, comes: bool
) -> None:
    other = "hub_2: {type: openai, api_base_url: 'http://127.0.0.1:3/v1'}"
    one, two = (f"backends: {{{_LOCAL % (1, '')}{more}}}" for more in ("", f", {other}"))
    before, after = (one, two) if comes else (two, one)
    result = reloaded_from(file, before, f"{after}\ncompaction: {{enabled: true}}")
    assert result.held == ("backends.hub_2",)
    assert result.changed == ("compaction.enabled",)
    assert result.settings.compaction.enabled
    assert len(result.settings.backends.others) == (1 if comes else 2)


def test_a_key_that_this_process_cannot_have_keeps_a_relay_from_starting_not_from_reloading(
    file: Path,
) -> None:
    before, keyed = (f"backends: {{{_LOCAL % (1, more)}}}" for more in ("", ", api_key_env: KEY"))
    result = reloaded_from(file, before, keyed + "\nserver: {keep_alive_s: 2}")
    assert (result.changed, result.held) == (
        ("server.keep_alive_s",),
        ("backends.local.api_key_env",),
    )
    assert "the variable KEY is not set" in str(result.warnings[0])
    with pytest.raises(ConfigError, match="the variable KEY is not set"):
        Live.load(sources(file))
    assert Live.load(sources(file, environ={"KEY": "sk-x"})).warnings == ()


def test_names_act_at_once_unless_they_need_a_backend_that_waits(file: Path) -> None:
    before = f"backends: {{{_LOCAL % (1, '')}}}"
    after = "models: {routes: {main: ['%s:a', gpt-5.5]}}\ndefault_backend: %s\n"
    result = reloaded_from(file, before, before + "\n" + after % ("local", "local"))
    assert result.changed == ("models.routes", "default_backend")
    assert result.settings.models.routes == {"main": ("local:a", "gpt-5.5")}
    more = before.replace("}}", "}, hub: {type: openai, api_base_url: 'http://127.0.0.1:3/v1'}}")
    refused = changed_from(file, before, more + "\n" + after % ("hub", "openai_codex"))
    assert isinstance(refused, Refused)
    assert "there is no backend hub" in str(refused)
    assert "backends.hub: old until a restart, which the rest does not fit" in str(refused)


# When it is read again.

A, B = (1, 1, 10, 100), (2, 1, 10, 100)


@pytest.mark.parametrize(
    "looks",
    [
        [(A, None), (A, None)],
        [(B, None), (B, "CHANGED"), (B, None)],
        [(B, None), (A, None), (A, None)],
        [(B, None), ((3, 1, 11, 100), None), ((3, 1, 11, 100), "CHANGED")],
        [((1, 1, 10, 7), None), ((1, 1, 10, 7), "CHANGED")],
        [(None, None), (A, None), (A, None)],
        [(None, None), (B, None), (B, "CHANGED")],
        [(None, None), (None, "GONE"), (None, None), (A, None), (A, "CHANGED")],
    ],
    ids=[
        "nothing happens",
        "a change is told once",
        "a change is undone",
        "a change in two steps is one",
        "another file of the same size and age",
        "away for a moment",
        "away for a moment and another one then",
        "gone and back",
    ],
)
def test_a_change_is_told_once_it_is_at_rest(looks: list[tuple[Mark, str | None]]) -> None:
    watch = Watch(A)
    for mark, told in looks:
        assert watch.look(mark) is Seen[told or "NOTHING_NEW"], mark


def test_a_mark_tells_contents_apart_however_they_were_exchanged(file: Path) -> None:
    file.write_text("one")
    marks = [mark_of(file)]
    other = file.with_name("other")
    other.write_text("two")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    marks.append(mark_of(file))
    os.utime(file, ns=(0, 5))
    marks.append(mark_of(file))
    time.sleep(0.02)  # the grain of a file system's clock
    file.write_text("six")
    os.utime(file, ns=(0, 5))
    marks.append(mark_of(file))
    file.unlink()
    marks.append(mark_of(file))
    assert len(set(marks)) == 5
    assert marks[-1] is None
    assert mark_of(None) is None


def test_a_mark_is_that_of_what_a_link_leads_to(file: Path) -> None:
    for name in ("one", "two"):
        file.with_name(name).write_text(name)
    file.symlink_to("one")
    before = mark_of(file)
    link = file.with_name("link")
    link.symlink_to("two")
    link.replace(file)
    assert mark_of(file) == mark_of(file.with_name("two")) != before


# The task that does it.


@attrs.define(eq=False)
class Kept:
    """A relay's configuration while it is kept, in a time that moves when it is told to.

    pytest-trio looks for the clock among a test's own arguments.
    """

    file: Path
    live: Live
    clock: MockClock
    told: list[EventDict]
    #: What was let act.
    adopted: list[Settings] = attrs.field(factory=list)

    async def adopt(self, settings: Settings) -> None:
        self.adopted.append(settings)
        await trio.lowlevel.checkpoint()

    async def looks(self, times: int = 1) -> None:
        """Let so many looks pass, and what comes of them."""
        for _ in range(times):
            await self.settled()
            self.clock.jump(LOOK_S)
        await self.settled()

    async def settled(self) -> None:
        limiter = trio.to_thread.current_default_thread_limiter()
        await trio.testing.wait_all_tasks_blocked()
        while limiter.borrowed_tokens:
            await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked()

    async def asked(self) -> None:
        """Ask, and let the time pass that the file is given to come to rest."""
        self.live.ask()
        await self.settled()
        self.clock.jump(REST_S)
        await self.settled()

    def lines(self) -> list[str]:
        """Return what was said, and forget it."""
        said = []
        for line in self.told:
            level, event = line.pop("log_level"), line.pop("event")
            said.append(" ".join((level, event, *line.values())))
        self.told.clear()
        return said


@pytest.fixture
async def kept(file: Path, mock_clock: MockClock) -> AsyncIterator[Kept]:
    write(file, "server: {keep_alive_s: 1}")
    with capture_logs() as told:
        async with trio.open_nursery() as nursery:
            kept = Kept(file, Live.load(sources(file)), mock_clock, told)
            nursery.start_soon(kept.live.keep, kept.adopt)
            yield kept
            nursery.cancel_scope.cancel()


async def test_a_changed_file_is_read_when_it_has_come_to_rest(
    kept: Kept, mock_clock: MockClock
) -> None:
    kept.file.write_text("server: {keep_alive_s: 2, ")
    await kept.looks()
    kept.file.write_text(f"server: {{keep_alive_s: 2, client_keys: [{_KEY}]}}")
    await kept.looks()
    assert (kept.adopted, kept.lines()) == ([], [])
    await kept.looks()
    assert [s.server.keep_alive_s for s in kept.adopted] == [2.0]
    assert kept.live.settings is kept.adopted[0]
    [line] = kept.lines()
    assert line == "info configuration reloaded server.keep_alive_s, server.client_keys"
    await kept.looks(5)
    assert (len(kept.adopted), kept.lines()) == (1, [])


async def test_a_file_that_cannot_be_used_is_told_once_and_the_old_one_stays(
    kept: Kept, mock_clock: MockClock
) -> None:
    kept.file.write_text("server:\n  keep_alive_s: never\n")
    await kept.looks(5)
    [line] = kept.lines()
    assert line.startswith(
        "error configuration not reloaded, the old one stays: "
        f"server.keep_alive_s ({kept.file}:2): must be a number"
    )
    assert kept.adopted == []
    assert kept.live.settings.server.keep_alive_s == 1.0
    kept.file.write_text("server:\n  keep_alive_s: 3\n")
    await kept.looks(2)
    assert [s.server.keep_alive_s for s in kept.adopted] == [3.0]


async def test_a_file_that_is_gone_is_told_once_and_read_when_it_is_back(
    kept: Kept, mock_clock: MockClock
) -> None:
    kept.file.unlink()
    await kept.looks(5)
    assert kept.lines() == [f"warning {kept.file} is gone; the configuration stays as it is"]
    kept.file.write_text("server: {keep_alive_s: 4}")
    await kept.looks(2)
    assert [s.server.keep_alive_s for s in kept.adopted] == [4.0]


async def test_a_file_that_is_written_again_as_it_was_is_not_worth_a_word(
    kept: Kept, mock_clock: MockClock
) -> None:
    kept.file.write_text("# as before\nserver: {keep_alive_s: 1}")
    await kept.looks(3)
    assert (kept.adopted, kept.lines()) == ([], [])


async def test_who_asks_waits_for_no_look_and_is_always_answered(
    kept: Kept, mock_clock: MockClock
) -> None:
    kept.file.write_text("server: {keep_alive_s: 2}")
    await kept.asked()
    assert kept.lines() == ["info configuration reloaded server.keep_alive_s"]
    await kept.asked()
    assert kept.lines() == ["info configuration reloaded: nothing has changed"]
    kept.file.write_text("server: {")
    await kept.asked()
    [line] = kept.lines()
    assert "not reloaded" in line
    # The accounts are looked at each time.
    assert [s.server.keep_alive_s for s in kept.adopted] == [2.0] * 3
    await kept.looks(5)
    assert kept.lines() == []


async def test_what_needs_a_restart_is_said_when_it_changes_and_to_who_asks(
    kept: Kept, mock_clock: MockClock
) -> None:
    kept.file.write_text("server: {keep_alive_s: 2, port: 5, host: 127.0.0.2}")
    await kept.looks(2)
    assert kept.lines() == [
        "info configuration reloaded server.keep_alive_s",
        "warning changes that need a restart server.host, server.port",
    ]
    kept.file.write_text("server: {keep_alive_s: 3, port: 5, host: 127.0.0.2}")
    await kept.looks(2)
    assert kept.lines() == ["info configuration reloaded server.keep_alive_s"]
    await kept.asked()
    assert kept.lines() == ["warning changes that need a restart server.host, server.port"]


async def test_a_new_warning_is_said_and_an_old_one_is_not_repeated(
    kept: Kept, mock_clock: MockClock
) -> None:
    kept.file.write_text("server: {client_keys: [short]}")
    await kept.looks(2)
    said = kept.lines()
    assert said[0] == "info configuration reloaded server.keep_alive_s, server.client_keys"
    assert said[1].startswith("warning server.client_keys")
    kept.file.write_text("server: {client_keys: [short], keep_alive_s: 7}")
    await kept.looks(2)
    assert kept.lines() == ["info configuration reloaded server.keep_alive_s"]


async def test_who_asks_while_the_file_is_written_is_answered_when_it_is_at_rest(
    kept: Kept, mock_clock: MockClock
) -> None:
    kept.file.write_text("")
    kept.live.ask()
    await kept.settled()
    kept.file.write_text("server: {keep_alive_s: 2")
    mock_clock.jump(REST_S)
    await kept.settled()
    kept.file.write_text("server: {keep_alive_s: 2, log_level: debug}")
    mock_clock.jump(REST_S)
    await kept.settled()
    assert (kept.adopted, kept.lines()) == ([], [])
    mock_clock.jump(REST_S)
    await kept.settled()
    assert kept.lines() == ["info configuration reloaded server.keep_alive_s, server.log_level"]


async def test_a_file_that_never_rests_is_read_as_it_is_in_the_end(
    kept: Kept, mock_clock: MockClock
) -> None:
    kept.live.ask()
    for number in range(40):
        kept.file.write_text(f"server: {{keep_alive_s: {'1' * (number + 1)}}}")
        await kept.settled()
        if kept.adopted:
            break
        mock_clock.jump(REST_S)
    assert 10 < number < 30


async def test_a_bug_in_a_reload_is_logged_and_the_next_one_works(
    kept: Kept, mock_clock: MockClock
) -> None:
    class Broken(Sources):
        def load(self) -> object:  # type: ignore[override]
            raise KeyError("a bug")

    sound = kept.live.sources
    kept.live.sources = Broken(config_path=kept.file, environ={}, flags={})
    kept.file.write_text("server: {keep_alive_s: 22}")
    await kept.looks(4)
    [told] = kept.told
    kept.told.clear()
    assert told["event"] == "the configuration could not be read again; the old one stays"
    assert told["log_level"] == "error"
    kept.live.sources = sound
    kept.file.write_text("server: {keep_alive_s: 333}")
    await kept.looks(2)
    assert [s.server.keep_alive_s for s in kept.adopted] == [333.0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
async def test_a_pipe_is_read_once_and_said_to_be(file: Path, mock_clock: MockClock) -> None:
    os.mkfifo(file)
    writer = threading.Thread(target=write, args=(file, "server: {keep_alive_s: 3}"))
    writer.start()
    live = Live.load(sources(file))
    writer.join()
    assert live.settings.server.keep_alive_s == 3.0
    assert [str(warning) for warning in live.warnings] == [
        f"{file}: is no regular file: it was read once, and is not read again"
    ]
    with capture_logs() as told:
        async with trio.open_nursery() as nursery:
            kept = Kept(file, live, mock_clock, told)
            nursery.start_soon(live.keep, kept.adopt)
            await kept.looks(3)
            assert kept.lines() == []
            await kept.asked()
            nursery.cancel_scope.cancel()
    assert kept.lines() == ["info no configuration file to reload; the accounts were looked at"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
async def test_a_file_that_has_become_a_pipe_is_not_waited_for(
    kept: Kept, mock_clock: MockClock
) -> None:
    kept.file.unlink()
    os.mkfifo(kept.file)
    await kept.asked()
    [line] = kept.lines()
    assert line.endswith(f"{kept.file}: is no regular file any more")


async def test_without_a_file_who_asks_is_told_so(mock_clock: MockClock) -> None:
    with capture_logs() as told:
        async with trio.open_nursery() as nursery:
            live = Live.load(sources(None))
            kept = Kept(None, live, mock_clock, told)  # type: ignore[arg-type] - there is none
            nursery.start_soon(live.keep, kept.adopt)
            await kept.looks(3)
            live.ask()
            await kept.settled()
            nursery.cancel_scope.cancel()
    assert kept.lines() == ["info no configuration file to reload; the accounts were looked at"]
    assert kept.adopted == [live.settings]


def test_a_file_that_changes_while_it_is_read_first_is_read_again(file: Path) -> None:
    file.write_text("server: {keep_alive_s: 1}")

    class Written(Sources):
        def load(self, *, starts: bool = False) -> Loaded:
            loaded = super().load(starts=starts)
            file.write_text("server: {keep_alive_s: 22}")
            return loaded

    live = Live.load(Written(config_path=file, environ={}, flags={}))
    assert live.watch.look(mark_of(file)) is Seen.NOTHING_NEW
    assert live.watch.look(mark_of(file)) is Seen.CHANGED


def test_a_first_configuration_that_cannot_be_used_is_an_error(file: Path) -> None:
    file.write_text("server: {port: -1}")
    with pytest.raises(ConfigError):
        Live.load(sources(file))


def test_cancelled_at_any_step_all_of_it_acts_or_nothing(file: Path) -> None:
    async def run(at: int) -> bool:
        """Return whether the reload came to its end before the cancel."""
        write(file, "server: {keep_alive_s: 1, port: 1}")
        live, acting = Live.load(sources(file)), []
        before = live.settings

        async def adopt(settings: Settings) -> None:
            await trio.lowlevel.checkpoint()
            acting.append(settings)  # all at once, and no checkpoint behind it

        write(file, "server: {keep_alive_s: 22, port: 1}")
        with trio.CancelScope() as scope:
            instrument = CancelAtStep(scope, at)
            trio.lowlevel.add_instrument(instrument)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(live.keep, adopt, look_s=0))
                    await until(lambda: bool(acting))
                    nursery.cancel_scope.cancel()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        assert live.settings is (acting[0] if acting else before)
        return not scope.cancelled_caught

    at = 1
    while not trio.run(run, at):
        at += 1
    assert at > 5


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():
            await trio.lowlevel.checkpoint()
