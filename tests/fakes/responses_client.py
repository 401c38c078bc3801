"""A Responses client that holds each event against the types of the OpenAI SDK and the protocol."""

from __future__ import annotations

from typing import Any

import attrs
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from codexrelay.protocol import events as names
from codexrelay.protocol import sse
from codexrelay.protocol.raw import parse_object

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@attrs.define(eq=False)
class ResponsesClient:
    """Reads a Responses stream as strictly as the format allows."""

    events: list[dict[str, Any]] = attrs.field(factory=list)
    #: Output index -> the item as it was added, and as it was done.
    added: dict[int, dict[str, Any]] = attrs.field(factory=dict)
    done: dict[int, dict[str, Any]] = attrs.field(factory=dict)
    comments: int = 0
    _sdk: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sdk = ResponseStreamState(input_tools=omit, text_format=omit)

    def read(self, data: bytes) -> None:
        assert data == b"" or data.endswith(b"\n\n"), "an event was cut"
        for raw in sse.split(data):
            event = sse.read(raw)
            if event is None:
                self.comments += 1
            else:
                self._take(event.name, parse_object(event.data))

    def _take(self, name: str, event: dict[str, Any]) -> None:
        assert self.terminal is None, "something follows the terminal event"
        assert event["type"] == name
        assert event["sequence_number"] == len(self.events)
        typed = _EVENT.validate_python(event, strict=False)
        self._sdk.handle_event(typed)
        if "response" in event and event.get("response", {}).get("status") != "failed":
            Response.model_validate(event["response"])
        self.events.append(event)
        index = event.get("output_index")
        if name == names.ITEM_ADDED:
            assert index == len(self.added), "an item came at a place that is not the next"
            self.added[index] = event["item"]
        elif index is not None:
            assert index in self.added
            assert index not in self.done, "something follows the end of an item"
            assert event.get("item_id", self.added[index]["id"]) == self.added[index]["id"]
            if name == names.ITEM_DONE:
                self.done[index] = event["item"]
                self._check_pieces(index, event["item"])

    def _check_pieces(self, index: int, item: dict[str, Any]) -> None:
        """Hold what was told piece by piece against the finished item."""
        said = "".join(
            event["delta"]
            for event in self.events
            if event["type"].endswith(".delta") and event["output_index"] == index
        )
        match item["type"]:
            case "message":
                whole = "".join(part.get("text") or part["refusal"] for part in item["content"])
            case "reasoning":
                whole = "".join(part["text"] for part in item["summary"])
            case "function_call":
                whole = item["arguments"]
            case _:
                whole = item.get("input", "")
        assert said == whole or item.get("status") == "incomplete"

    @property
    def names(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def terminal(self) -> dict[str, Any] | None:
        last = self.events[-1] if self.events else {}
        return last if last.get("type") in names.TERMINAL else None

    @property
    def response(self) -> dict[str, Any]:
        assert self.terminal is not None, "the stream has no end"
        response: dict[str, Any] = self.terminal["response"]
        return response

    @property
    def output(self) -> list[dict[str, Any]]:
        """The items of the terminal event, which must be those that were done."""
        output: list[dict[str, Any]] = self.response["output"]
        assert output == [item for _, item in sorted(self.done.items())]
        return output

    @property
    def text(self) -> str:
        return "".join(e["delta"] for e in self.events if e["type"] == "response.output_text.delta")

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        """Id, name and input of each call, in order."""
        return [
            (item["call_id"], item["name"], item.get("arguments", item.get("input")))
            for item in self.output
            if item["type"] in ("function_call", "custom_tool_call")
        ]
