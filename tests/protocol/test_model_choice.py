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
    Others,
    choose,
    choose_all,
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


# Backends of other kinds

OTHERS: Final = Others(models={"local": ("qwen3", "gpt-5.5-high", "gpt-5.5"), "hub": ("qwen3",)})
ELSEWHERE: Final[Mapping[str, str]] = {
    **ALIASES,
    "mine": "local:Qwen3-high?verbosity=low",
    "bare": "qwen3",
    "local:odd": "hub:x",
    "Plain": "gpt-0",
}
ROUTES: Final[Mapping[str, tuple[str, ...]]] = {
    "Coder": ("local:qwen3", "openai-codex:gpt-5.5-low?verbosity=high", "gpt-5.5"),
    "alone": ("qwen3",),
    "odd": ("local:x?depth=3",),
    "gpt-5.5-max-low": ("hub:x",),
}


def among(text: str, default: str = "openai-codex") -> ModelChoice:
    others = Others(models=OTHERS.models, default=default)
    return choose(text, aliases=ELSEWHERE, known=KNOWN, others=others)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        pytest.param("local:qwen3", model("qwen3", "local"), id="named"),
        pytest.param("Local/QWEN3", model("QWEN3", "local"), id="as it is written"),
        pytest.param("local:GPT-5.5", model("GPT-5.5", "local"), id="also one of the catalogue"),
        pytest.param("local:gpt-5.5-low", model("gpt-5.5-low", "local"), id="no effort is cut off"),
        pytest.param("local:mine", model("mine", "local"), id="no alias behind it"),
        pytest.param("local:relay-model", model("relay-model", "local"), id="no Codex alias"),
        pytest.param(
            "local:q?reasoning_effort=high&service_tier=flex",
            model("q", "local", effort="high", service_tier="flex"),
            id="parameters",
        ),
        pytest.param("qwen3", model("qwen3", "local"), id="the first that lists it"),
        pytest.param("Qwen3", model("Qwen3"), id="listed by its very name only"),
        pytest.param("gpt-5.5", model(), id="the catalogue comes before lists"),
        pytest.param("gpt-5.5-high", model("gpt-5.5-high", "local"), id="a list before an effort"),
        pytest.param("gpt-0", model("gpt-0"), id="listed nowhere"),
        pytest.param("else:qwen3", model("else:qwen3"), id="not configured"),
        pytest.param(
            "mine", model("Qwen3-high", "local", verbosity="low"), id="an alias of one there"
        ),
        pytest.param(
            "mine-max?verbosity=high",
            model("Qwen3-high", "local", effort="max", verbosity="high"),
            id="an alias with more",
        ),
        pytest.param("bare", model("qwen3", "local"), id="an alias that names no backend"),
        pytest.param("LOCAL:odd", model("x", "hub"), id="an alias that looks like it"),
        pytest.param(
            "openai-codex.2:mine", model("mine", "openai-codex.2"), id="no alias behind the family"
        ),
        pytest.param("openai-codex:deep", DEEP, id="but for those of the family"),
        pytest.param("openai/gpt-5.5", model(instance="openai-codex"), id="the old name"),
    ],
)
def test_a_model_of_another_backend_is_found_by_prefix_alias_or_list(
    text: str, choice: ModelChoice
) -> None:
    assert among(text) == choice


@pytest.mark.parametrize(
    ("default", "text", "choice"),
    [
        ("hub", "gpt-0", model("gpt-0", "hub")),
        ("hub", "GPT-5.5-high", model("GPT-5.5-high", "hub")),
        ("hub", "gpt-5.5", model("gpt-5.5", "hub")),
        ("hub", "qwen3", model("qwen3", "local")),
        ("hub", "Plain?verbosity=low", model("gpt-0", "hub", verbosity="low")),
        ("hub", "openai-codex:plain", model("gpt-0", "openai-codex")),
        ("hub", "openai-codex:gpt-5.5", model(instance="openai-codex")),
        ("openai-codex.2", "gpt-5.5-low", model(instance="openai-codex.2", effort="low")),
        ("openai-codex.2", "plain", model("gpt-0", "openai-codex.2")),
        ("openai-codex.2", "openai-codex:gpt-5.5", model(instance="openai-codex")),
        ("openai-codex.2", "openai-codex:plain", model("gpt-0", "openai-codex")),
        ("openai-codex.2", "openai-codex.3:plain", model("gpt-0", "openai-codex.3")),
        ("openai-codex.2", "local:x", model("x", "local")),
    ],
)
def test_the_default_backend_has_what_names_none_and_is_listed_nowhere(
    default: str, text: str, choice: ModelChoice
) -> None:
    assert among(text, default) == choice


def routed(text: str) -> tuple[ModelChoice, ...]:
    return choose_all(text, aliases=ELSEWHERE, routes=ROUTES, known=KNOWN, others=OTHERS)


LOW: Final = model(instance="openai-codex", effort="low", verbosity="high")


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("CODER", (model("qwen3", "local"), LOW, model())),
        (
            "coder?verbosity=low",
            (
                model("qwen3", "local", verbosity="low"),
                model(instance="openai-codex", effort="low", verbosity="low"),
                model(verbosity="low"),
            ),
        ),
        (
            "coder-max",
            (
                model("qwen3", "local", effort="max"),
                model(instance="openai-codex", effort="max", verbosity="high"),
                model(effort="max"),
            ),
        ),
        ("alone", (model("qwen3", "local"),)),
        ("gpt-5.5-max-low", (model("x", "hub"),)),
        ("gpt-5.5", (model(),)),
        ("mine", (model("Qwen3-high", "local", verbosity="low"),)),
        ("local:coder", (model("coder", "local"),)),
        ("openai-codex:coder", (model("coder", "openai-codex"),)),
        ("alone-much", (model("alone-much"),)),
    ],
)
def test_a_route_is_several_choices_in_order_and_all_else_is_one(
    text: str, choices: tuple[ModelChoice, ...]
) -> None:
    assert routed(text) == choices


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("odd", "no parameter 'depth'; there are: "),
        ("odd", "(models.routes: 'odd' is 'local:x?depth=3')"),
        ("coder?depth=3", "no parameter 'depth'"),
        ("local:x?verbosity=loud", "none of: low, medium, high"),
    ],
)
def test_a_wrong_parameter_is_refused_of_any_backend(text: str, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        routed(text)
    assert told in caught.value.message


@given(
    text=st.lists(st.sampled_from([*NAMES, "local", "qwen3", "coder", "alone"]), max_size=6).map(
        "".join
    )
)
def test_without_other_backends_and_routes_nothing_is_read_otherwise(text: str) -> None:
    try:
        alone = chosen(text)
    except RequestError:
        return
    assert choose_all(text, aliases=ALIASES, routes={}, known=KNOWN) == (alone,)
