"""Settings of what is kept of sessions and turns: the block `sessions`."""

from __future__ import annotations

from typing import Final

import attrs

from codexrelay.setting import setting

DEFAULT_STATE_PATH: Final = "var/codexrelay_state"


@attrs.frozen(kw_only=True)
class SessionsSettings:
    """`sessions`."""

    state_path: str = setting(
        DEFAULT_STATE_PATH,
        """
        Folder for what outlives the relay: what sessions must not forget, the journal of turns. A
        relative path counts from this file's folder, by default from the working directory.
        """,
        path="folder",
    )
    max_sessions: int = setting(
        2_000,
        "Sessions kept in memory, some 20 KB each; the one used longest ago goes first.",
        at_least=1,
        live=True,
    )
    idle_seconds: float = setting(
        24 * 3600.0,
        "Seconds after which a session that was not used leaves the memory.",
        above=0,
        live=True,
    )
    keep_days: float = setting(
        30.0,
        """
        Days for which the disk remembers of a session that was not used: whether its history may be
        shortened, and which account it is bound to.
        """,
        above=0,
        live=True,
    )
