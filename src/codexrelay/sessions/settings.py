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
        Folder for what outlives the relay, such as the journal of turns. A relative path counts
        from this file's folder, by default from the working directory.
        """,
        path="folder",
    )
