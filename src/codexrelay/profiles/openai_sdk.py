"""Programs on OpenAI's own SDKs, of which nothing more is known (measured: 3.54.0 for Python).

The numbers are the chapters of the wire notes of the clients.

- `user-agent` is `OpenAI/Python …`, `AsyncOpenAI/Python …` or `OpenAI/JS …`; `x-stainless-lang`
  says the language (5b).
- There is no session id, unless the program gives one in `extra_headers` or `extra_body` (5b).
  `safety_identifier` and `user` are none: by OpenAI's reference they say who the end user is, and
  all conversations of one user would be one session.
- The final response is built from `response.completed`: with an empty `output` no tool runs (0.2).
  Another response id within one stream is an error (0.4).

It needs no capabilities of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.profiles.profile import ANY_FIELDS, ANY_HEADERS, Kind, Profile, user_agent

if TYPE_CHECKING:
    from collections.abc import Mapping


def _named(headers: Mapping[str, str]) -> bool:
    return "x-stainless-lang" in headers or user_agent(headers).startswith(
        ("openai/", "asyncopenai/")
    )


PROFILE: Final = Profile(
    name="openai_sdk",
    kind=Kind.LIBRARY,
    named=_named,
    session_headers=ANY_HEADERS,
    session_fields=ANY_FIELDS,
)
