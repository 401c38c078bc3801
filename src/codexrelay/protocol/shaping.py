"""What is known of how one request is to be shaped, and of the texts and tools that this takes."""

from __future__ import annotations

import attrs

from codexrelay.protocol.capabilities import Capabilities, resolve
from codexrelay.protocol.prompt import Prompt
from codexrelay.protocol.relay_fields import NOTHING_SAID, RelayFields
from codexrelay.protocol.tool_schema import ToolSchema


@attrs.frozen(kw_only=True)
class Shaping:
    """How a request becomes the backend's."""

    capabilities: Capabilities
    prompt: Prompt = attrs.field(factory=Prompt)
    tool_schema: ToolSchema = attrs.field(factory=ToolSchema)
    #: What the request says to the relay itself.
    said: RelayFields = NOTHING_SAID


#: Of a request for which nothing is configured, by its route.
RESPONSES = Shaping(capabilities=resolve("openai-responses", ()))
CHAT = Shaping(capabilities=resolve("openai-chat", ()))
