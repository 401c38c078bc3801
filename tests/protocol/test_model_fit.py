"""A request is fitted to its model, and every change is told."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.backends.codex.catalogue import packaged
from codexrelay.errors import RequestError
from codexrelay.protocol.fit import NO_DEFAULTS, Defaults, fit, levels
from codexrelay.protocol.model_choice import EFFORTS, VERBOSITIES, ModelChoice

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject


def entry(*efforts: str, **more: Json) -> JsonObject:
    known: list[Json] = [{"effort": effort, "description": ""} for effort in efforts]
    return {"slug": "m", "supported_reasoning_levels": known, **more}


FOUR: Final = entry("low", "medium", "high", "xhigh")
TERSE: Final = entry("medium", support_verbosity=False)


def choice(**asked: str) -> ModelChoice:
    return ModelChoice(slug="m", **asked)  # type: ignore[arg-type]


def thinking(effort: Json, **more: Json) -> JsonObject:
    return {"model": "m", "reasoning": {"effort": effort, **more}}


def saying(verbosity: Json, **more: Json) -> JsonObject:
    return {"model": "m", "text": {"verbosity": verbosity, **more}}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("none", "low"), ("minimal", "low"), ("low", "low"), ("medium", "medium"),
        ("high", "high"), ("xhigh", "xhigh"), ("max", "xhigh"), ("ultra", "xhigh"),
        ("HIGH", "high"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["name", "request", "default"])
def test_an_effort_goes_down_to_the_models_highest_and_up_to_its_lowest_and_is_told(
    asked: str, sent: str, where: str
) -> None:
    body, named, defaults = {"model": "m"}, choice(), NO_DEFAULTS
    match where:
        case "name":
            named = choice(effort=asked)
        case "request":
            body = thinking(asked)  # type: ignore[assignment]
        case _:
            defaults = Defaults(effort=asked)
    fitted, adjusted = fit(body, named, FOUR, defaults)  # type: ignore[arg-type]
    assert fitted == thinking(sent)
    assert adjusted == (() if asked == sent else (f"reasoning_effort={asked}->{sent}",))


def test_between_two_levels_the_lower_one_is_taken() -> None:
    fitted, adjusted = fit(thinking("high"), choice(), entry("minimal", "medium", "max"))
    assert (fitted, adjusted) == (thinking("medium"), ("reasoning_effort=high->medium",))


def test_a_level_that_only_this_model_has_is_sent_as_it_is() -> None:
    assert fit(thinking("hyper"), choice(), entry("low", "hyper")) == (thinking("hyper"), ())


@pytest.mark.parametrize(
    ("named", "asked", "default", "sent"),
    [
        ("high", "low", "medium", "high"),
        (None, "low", "medium", "low"),
        (None, None, "medium", "medium"),
        (None, None, None, None),
    ],
)
def test_the_name_beats_the_request_and_the_request_the_default(
    named: str | None, asked: str | None, default: str | None, sent: str | None
) -> None:
    chosen = ModelChoice(slug="m", effort=named, verbosity=named)
    body: JsonObject = {"model": "m"}
    if asked is not None:
        body |= thinking(asked, summary="auto") | saying(asked, format={"type": "text"})
    fitted, adjusted = fit(body, chosen, FOUR, Defaults(effort=default, verbosity=default))
    assert adjusted == ()
    if sent is None:
        assert fitted is body
        return
    told: Any = fitted
    assert (told["reasoning"]["effort"], told["text"]["verbosity"]) == (sent, sent)
    if asked is not None:
        assert told["reasoning"]["summary"] == "auto", "what stands beside it stays"
        assert told["text"]["format"] == {"type": "text"}


@pytest.mark.parametrize("nothing", [{}, {"reasoning": None}, {"reasoning": {"effort": None}}])
def test_null_asks_for_nothing(nothing: JsonObject) -> None:
    assert fit(nothing, choice(), FOUR)[0] is nothing
    assert fit(nothing, choice(), FOUR, Defaults(effort="low"))[0] == {
        "reasoning": {"effort": "low"}
    }


def test_a_verbosity_is_left_out_where_the_model_knows_none_and_that_is_told() -> None:
    told = ("verbosity=high->omitted",)
    assert fit(saying("high"), choice(), TERSE) == ({"model": "m"}, told)
    assert fit(saying("high", format={}), choice(), TERSE) == (
        {"model": "m", "text": {"format": {}}},
        told,
    )
    assert fit({"model": "m"}, choice(verbosity="high"), TERSE) == ({"model": "m"}, told)


def test_the_service_tier_of_the_request_beats_that_of_the_name() -> None:
    named = choice(service_tier="flex")
    assert fit({}, named, FOUR) == ({"service_tier": "flex"}, ())
    assert fit({"service_tier": None}, named, FOUR) == ({"service_tier": "flex"}, ())
    assert fit({"service_tier": "default"}, named, FOUR) == ({"service_tier": "default"}, ())
    assert fit({"service_tier": "fast"}, named, FOUR) == (
        {"service_tier": "priority"},
        ("service_tier=fast->priority",),
    )


@pytest.mark.parametrize("wrong", ["much", "", 5, True, ["low"], {}])
def test_what_is_no_effort_is_refused_with_those_of_the_model(wrong: Json) -> None:
    with pytest.raises(RequestError) as caught:
        fit(thinking(wrong), choice(), FOUR)
    assert "'m' takes: low, medium, high, xhigh" in caught.value.message
    assert (caught.value.status, caught.value.param) == (400, "reasoning.effort")
    with pytest.raises(RequestError) as caught:
        fit(thinking(wrong), choice(), FOUR, spoken="chat")
    assert caught.value.param == "reasoning_effort"
    assert fit(thinking(wrong), choice(effort="low"), FOUR)[0] == thinking("low")


@pytest.mark.parametrize("wrong", ["much", "", 5, False])
def test_what_is_no_verbosity_is_refused_with_those_that_are(wrong: Json) -> None:
    with pytest.raises(RequestError, match="takes: low, medium, high"):
        fit(saying(wrong), choice(), FOUR)


@pytest.mark.parametrize("wrong", ["much", 5])
def test_a_model_that_the_catalogue_does_not_have_takes_whatever_it_is_sent(wrong: Json) -> None:
    body = thinking(wrong) | saying(wrong)
    fitted, adjusted = fit(body, choice(), None)
    assert fitted is body
    assert adjusted == ()
    assert fit({}, choice(effort="ultra"), None) == ({"reasoning": {"effort": "ultra"}}, ())


@pytest.mark.parametrize("wrong", ["high", 5, ["high"]])
def test_what_is_no_object_is_left_to_the_backend(wrong: Json) -> None:
    body: JsonObject = {"reasoning": wrong, "text": wrong}
    fitted, adjusted = fit(body, choice(effort="ultra", verbosity="low"), FOUR)
    assert fitted is body
    assert adjusted == ()


def test_a_chat_client_sees_what_the_model_thinks_whoever_asked_for_the_effort() -> None:
    seen: JsonObject = {"reasoning": {"effort": "low", "summary": "auto"}}
    assert fit({}, choice(effort="low"), FOUR, spoken="chat")[0] == seen
    assert fit({}, choice(effort="low"), FOUR)[0] == {"reasoning": {"effort": "low"}}


EFFORT = st.none() | st.sampled_from(EFFORTS)
VERBOSITY = st.none() | st.sampled_from(VERBOSITIES)


@given(
    model=st.sampled_from(packaged())
    | st.sets(st.sampled_from(EFFORTS), min_size=1).map(lambda efforts: entry(*sorted(efforts))),
    named=st.builds(lambda e, v: ModelChoice(slug="m", effort=e, verbosity=v), EFFORT, VERBOSITY),
    default=st.builds(lambda e, v: Defaults(effort=e, verbosity=v), EFFORT, VERBOSITY),
    effort=EFFORT,
    verbosity=VERBOSITY,
    terse=st.booleans(),
)
def test_for_every_model_nothing_is_raised_in_silence_and_a_second_fit_changes_nothing(
    model: JsonObject,
    named: ModelChoice,
    default: Defaults,
    effort: str | None,
    verbosity: str | None,
    terse: bool,
) -> None:
    model = model | {"support_verbosity": not terse}
    body: JsonObject = thinking(effort) | saying(verbosity) | {"input": ["kept"]}
    before = copy.deepcopy(body)
    fitted, adjusted = fit(body, named, model, default)
    assert body == before
    assert fitted["input"] is body["input"]
    told: Any = fitted
    sent = told["reasoning"]["effort"]
    asked = named.effort or effort or default.effort
    assert (sent is None) == (asked is None)
    if asked is not None:
        offered = levels(model)
        assert sent in offered
        lowest = min(offered, key=EFFORTS.index)
        assert EFFORTS.index(sent) <= EFFORTS.index(asked) or sent == lowest
        assert (sent != asked) == any(text.startswith("reasoning_effort=") for text in adjusted)
    assert not (terse and told.get("text", {}).get("verbosity"))
    again, told_again = fit(fitted, ModelChoice(slug="m"), model)
    assert again is fitted
    assert told_again == ()
