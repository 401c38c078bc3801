"""What several answers of the backend say together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.backends.codex.listing import Listing, models_in, offers_in, union

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject


def listing(*models: JsonObject, at: float = 0.0) -> Listing:
    return Listing(plan=None, models=models, etag=None, fetched_unix_s=at, client_version="")


def model(slug: str, *plans: str, **more: int) -> JsonObject:
    named: JsonObject = {"available_in_plans": list(plans)} if plans else {}
    return {"slug": slug, **named, **more}


def test_the_order_of_a_single_list_is_the_backends() -> None:
    assert union([listing(model("b", priority=2), model("a", priority=1))]) == [
        model("b", priority=2),
        model("a", priority=1),
    ]


def test_of_several_lists_each_model_is_taken_once_from_the_newest() -> None:
    old = listing(model("a", priority=9), model("gone", priority=2), model("last"), at=1)
    new = listing(model("a", priority=3), model("b", priority=1), at=2)
    told = union([old, new])
    assert told == union([new, old])
    assert told == [
        model("b", priority=1),
        model("gone", priority=2),
        model("a", priority=3),
        model("last"),
    ]


def test_the_plans_of_a_model_are_those_that_any_list_names_unless_one_names_none() -> None:
    told = offers_in(
        [
            listing(model("a", "plus"), model("b", "plus"), model("c")),
            listing(model("a", "pro"), model("b"), model("c", "pro")),
        ]
    )
    assert told == {"a": {"plus", "pro"}, "b": None, "c": None}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"{}", "names no model"),
        (b'{"models": []}', "names no model"),
        (b'{"models": [5, {"slug": 5}, {"name": "x"}]}', "names no model"),
    ],
)
def test_what_is_no_catalogue_is_none(body: bytes, told: str) -> None:
    with pytest.raises(LookupError, match=told):
        models_in(body)


def test_entries_pass_as_they_are() -> None:
    assert models_in(b'{"models": [{"slug": "m", "x": [1]}, 5], "y": 1}') == (
        {"slug": "m", "x": [1]},
    )
