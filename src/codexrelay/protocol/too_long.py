"""A prompt that does not fit into the model's context, in the words of many servers.

Agents shorten their history and try again when they read the code for it, which most servers other
than OpenAI's own do not send.
"""

from __future__ import annotations

import re
from typing import Final

CODE: Final = "context_length_exceeded"

#: The words of OpenAI, vLLM, llama.cpp, llama-cpp-python, LM Studio, TGI and Mistral, and of the
#: compatible APIs of Gemini and Anthropic.
_WORDS: Final = re.compile(
    r"""
    maximum\ context\ length
    | maximum\ model\ length
    | context[ _](?:length|window|size)\W.{0,80}?\bexceed
    | exceed\w*\ .{0,60}?context[ _](?:length|window|size)
    | exceed_context_size
    | longer\ than\ .{0,40}?context\ (?:length|window|size)
    | greater\ than\ the\ context\ length
    | loaded\ with\ context\ length\ of\ only
    | exceeds\ the\ maximum\ number\ of\ tokens
    | prompt\ is\ too\ long
    | prompt\ contains\ .{0,60}?too\ large\ for\ model
    | inputs`?\ tokens\ \+\ `?max_new_tokens
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


def says_too_long(text: str) -> bool:
    """Tell whether an error's words, or its type, say that the prompt is too long.

    Not whether waiting helps: a rate in tokens has words like these, and a code of its own.
    """
    return _WORDS.search(text) is not None
