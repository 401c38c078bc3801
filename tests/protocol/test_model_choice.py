"""What the name of a model asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.errors import RequestError
from codexrelay.protocol import capabilities
from codexrelay.protocol.model_choice import (
    EFFORTS,
    SERVICE_TIERS,
    VERBOSITIES,
    ModelChoice,
    choose,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

KNOWN: Final = ("gpt-5.5", "gpt-5.5-max", "Mixed-Case", "codex-auto-review")
ALIASES: Final[Mapping[str, str]] = {
    "relay-model": "gpt-5.5",
    "Deep": "openai-codex.2:GPT-5.5?reasoning_effort=xhigh&verbosity=high&prompt_mode=custom_only",
    "family": "openai-codex:gpt-5.5",
    "chain": "relay-model",
    "codex-auto-review": "gpt-5.5?reasoning_effort=low",
    "my/model": "gpt-5.5-high",
    "elsewhere": "gpt-next?service_tier=fast",
    "wrong": "gpt-5.5?reasoning_effort=much",
    "openai-codex:odd": "gpt-5.5",
}


def chosen(text: str) -> ModelChoice:
    return choose(text, aliases=ALIASES, known=KNOWN)


def model(slug: str = "gpt-5.5", instance: str | None = None, **more: str) -> ModelChoice:
    asked = {key: more.pop(key, None) for key in ("effort", "verbosity", "service_tier")}
    return ModelChoice(slug=slug, instance=instance, capabilities=more, **asked)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("gpt-5.5", model()),
        ("GPT-5.5", model()),
        ("mixed-case", model("Mixed-Case")),
        ("gpt-0", model("gpt-0")),
        ("GPT-0", model("GPT-0")),
        ("", model("")),
        ("openai-codex:gpt-5.5", model(instance="openai-codex")),
        ("OpenAI/GPT-5.5", model(instance="openai-codex")),
        ("openai_codex.2:gpt-5.5", model(instance="openai-codex.2")),
        ("vendor/gpt-5.5", model("vendor/gpt-5.5")),
    ],
)
def test_a_name_is_an_instance_and_a_model_in_the_backends_own_spelling(
    text: str, choice: ModelChoice
) -> None:
    assert chosen(text) == choice


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("gpt-5.5?reasoning_effort=high", model(effort="high")),
        ("gpt-5.5?reasoning_effort=HIGH", model(effort="high")),
        ("gpt-5.5?reasoning_effort=low&reasoning_effort=high", model(effort="high")),
        ("gpt-5.5?verbosity=low&", model(verbosity="low")),
        ("gpt-5.5?", model()),
        ("gpt-5.5?service_tier=flex", model(service_tier="flex")),
        ("gpt-5.5?service_tier=fast", model(service_tier="priority")),
        ("gpt-5.5?%76erbosity=%6cow", model(verbosity="low")),
        ("gpt-5.5?prompt_mode=custom_only", model(prompt_mode="custom_only")),
        ("gpt-0?reasoning_effort=none", model("gpt-0", effort="none")),
        (
            "openai-codex.2:GPT-5.5?verbosity=high&codex_passthrough=true",
            model(instance="openai-codex.2", verbosity="high", codex_passthrough="true"),
        ),
    ],
)
def test_parameters_stand_behind_the_name(text: str, choice: ModelChoice) -> None:
    assert chosen(text) == choice


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gpt-5.5?effort=high", "no parameter 'effort'; there are: reasoning_effort, verbosity"),
        ("gpt-5.5?effort=high", "include_environment_context"),
        ("gpt-5.5?temperature", "no parameter 'temperature'"),
        ("gpt-5.5?reasoning_effort", "reasoning_effort '' is none of: none, minimal, low"),
        ("gpt-5.5?reasoning_effort=much", "'much' is none of: none, minimal, low, medium, high"),
        ("gpt-5.5?verbosity=xhigh", "verbosity 'xhigh' is none of: low, medium, high"),
        ("gpt-5.5?service_tier=slow", "none of: auto, default, flex, priority, fast"),
        ("gpt-5.5?a?b=c", "no parameter 'a?b'"),
        ("wrong", "'much' is none of"),
        (
            "wrong?reasoning_effort=low",
            "models.aliases: 'wrong' is 'gpt-5.5?reasoning_effort=much'",
        ),
    ],
)
def test_what_is_no_parameter_or_no_value_is_refused_with_those_that_are(
    text: str, told: str
) -> None:
    with pytest.raises(RequestError) as caught:
        chosen(text)
    assert told in caught.value.message
    assert (caught.value.status, caught.value.param) == (400, "model")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("gpt-5.5-high", model(effort="high")),
        ("GPT-5.5-XHigh", model(effort="xhigh")),
        ("openai-codex:gpt-5.5-none", model(instance="openai-codex", effort="none")),
        ("gpt-5.5-high?verbosity=low", model(effort="high", verbosity="low")),
        ("gpt-5.5-high?reasoning_effort=low", model(effort="low")),
        ("relay-model-high", model(effort="high")),
        ("gpt-5.5-max", model("gpt-5.5-max")),
        ("gpt-5.5-max-low", model("gpt-5.5-max", effort="low")),
        ("gpt-5.5-much", model("gpt-5.5-much")),
        ("gpt-0-high", model("gpt-0-high")),
        ("gpt-5.5-high-low", model("gpt-5.5-high-low")),
        ("-high", model("-high")),
    ],
)
def test_an_effort_is_taken_off_a_name_only_where_the_rest_is_one_and_the_whole_is_none(
    text: str, choice: ModelChoice
) -> None:
    assert chosen(text) == choice


DEEP: Final = model(
    instance="openai-codex.2", effort="xhigh", verbosity="high", prompt_mode="custom_only"
)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        pytest.param("relay-model", model(), id="a name that is not like a model's"),
        pytest.param("RELAY-Model", model(), id="in any case"),
        pytest.param("openai-codex:relay-model", model(instance="openai-codex"), id="prefixed"),
        pytest.param("my/model", model(effort="high"), id="with a slash and a suffix"),
        pytest.param("openai-codex:odd", model(), id="that looks as if it had a prefix"),
        pytest.param("deep", DEEP, id="with an instance and parameters"),
        pytest.param("openai-codex:deep", DEEP, id="the family leaves the choice to the alias"),
        pytest.param(
            "openai-codex.3:family",
            model(instance="openai-codex.3"),
            id="an instance beats the alias's family",
        ),
        pytest.param(
            "openai-codex.3:deep?verbosity=low&prompt_mode=merge_custom",
            model(
                instance="openai-codex.3",
                effort="xhigh",
                verbosity="low",
                prompt_mode="merge_custom",
            ),
            id="what is written beside it beats what it means",
        ),
        pytest.param("chain", model("relay-model"), id="no chains"),
        pytest.param("codex-auto-review", model(effort="low"), id="before a model of that name"),
        pytest.param("elsewhere", model("gpt-next", service_tier="priority"), id="of an unknown"),
    ],
)
def test_an_alias_stands_for_whatever_a_client_could_write(text: str, choice: ModelChoice) -> None:
    assert chosen(text) == choice


@pytest.mark.parametrize("key", capabilities.KEYS)
def test_every_capability_is_a_parameter(key: str) -> None:
    assert chosen(f"gpt-5.5?{key}=x").capabilities == {key: "x"}


@given(
    instance=st.none() | st.integers(1, 9).map(lambda n: f"openai-codex.{n}"),
    slug=st.sampled_from(KNOWN),
    asked=st.fixed_dictionaries(
        {},
        optional={
            "reasoning_effort": st.sampled_from(EFFORTS),
            "verbosity": st.sampled_from(VERBOSITIES),
            "service_tier": st.sampled_from(sorted(SERVICE_TIERS)),
            "prompt_mode": st.text("abc_&=?% ", min_size=1).map(str.strip),
        },
    ),
)
def test_a_name_that_is_put_together_is_read_back(
    instance: str | None, slug: str, asked: dict[str, str]
) -> None:
    def escaped(text: str) -> str:
        return "".join(f"%{byte:02x}" for byte in text.encode())

    query = "&".join(f"{key}={escaped(value)}" for key, value in asked.items())
    text = f"{instance}:{slug}" if instance else slug
    read = choose(f"{text}?{query}" if query else text, aliases={}, known=KNOWN)
    tier = asked.get("service_tier")
    assert read == ModelChoice(
        instance=instance,
        slug=slug,
        effort=asked.get("reasoning_effort"),
        verbosity=asked.get("verbosity"),
        service_tier=None if tier is None else SERVICE_TIERS[tier],
        capabilities={k: v for k, v in asked.items() if k == "prompt_mode"},
    )


NAMES = [
    "gpt-5.5",
    "-high",
    "?",
    "&",
    "=",
    "reasoning_effort",
    "relay-model",
    ":",
    "%",
    "İ",
    "deep",
]


@given(text=st.lists(st.sampled_from(NAMES), max_size=8).map("".join) | st.text())
def test_any_text_is_a_choice_or_a_clear_refusal(text: str) -> None:
    refused: RequestError | None = None
    try:
        choice = chosen(text)
    except RequestError as error:
        refused = error
    else:
        assert choice.effort in (None, *EFFORTS)
        assert "?" not in choice.slug
    if refused is not None:
        assert (refused.status, refused.param) == (400, "model")
