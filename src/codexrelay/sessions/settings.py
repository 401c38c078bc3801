"""Settings of what is kept of sessions and turns: the block `sessions`."""

from __future__ import annotations

from typing import Final

import attrs

DEFAULT_STATE_PATH: Final = "var/codexrelay_state"


@attrs.frozen(kw_only=True)
class SessionsSettings:
    """`sessions`."""

    #: Folder for what outlives the process, such as the journal of turns. A relative path counts
    #: from the folder of the YAML file that names it, otherwise from the working directory.
    state_path: str = DEFAULT_STATE_PATH
