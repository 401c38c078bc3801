"""The legs of one turn: what is planned when, and what is planned anew."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import attrs
import trio

from codexrelay.protocol.model_choice import ModelChoice
from codexrelay.relay.reply import WholeReply
from codexrelay.server.lightening import Lightened
from codexrelay.server.turns import Begun, Course, Planned, socket_turn
from codexrelay.server.upstream import UpstreamRequests
from codexrelay.sessions.identity import SessionKey, UserTurn
from codexrelay.sessions.state import LeftBehind, TurnPlan

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject
    from codexrelay.relay.leg import Leg
    from codexrelay.server.incoming import Incoming
    from codexrelay.server.services import Services

LOCAL, CODEX = ModelChoice(instance="local", slug="q"), ModelChoice(slug="gpt-5.5")


@attrs.define(eq=False)
class Plans:
    """Plans legs that are compacted where they may be; knows in which order things happened."""

    happened: list[str] = attrs.field(factory=list)

    async def plan(self, incoming: Incoming, begun: Begun, _services: Services) -> Planned:
        await trio.lowlevel.checkpoint()
        name = incoming.choice.slug
        compacted = begun.plan.compacts and incoming.choice is LOCAL
        self.happened.append(f"{name} {'compacted' if compacted else 'whole'}")
        return Planned(
            incoming=incoming,
            wish=None,  # type: ignore[arg-type] - no leg of these is gone
            requests=None,  # type: ignore[arg-type]
            reply=WholeReply(None),  # type: ignore[arg-type]
            passed_on=lambda _: [],
            left_behind=LeftBehind,
            lightened=Lightened(body={}, compacted=compacted),
        )

    async def meets_family(self, _key: SessionKey, *, compaction: bool) -> None:
        await trio.lowlevel.checkpoint()
        self.happened.append(f"meets the family ({compaction})")


def course(plans: Plans) -> Course:
    def turned_to(choice: ModelChoice, _services: object) -> SimpleNamespace:
        return SimpleNamespace(choice=choice, turned_to=turned_to)

    services = SimpleNamespace(
        relay=SimpleNamespace(others={"local": object()}),
        sessions=plans,
        current=SimpleNamespace(settings=SimpleNamespace(compaction=SimpleNamespace(enabled=True))),
    )
    begun = Begun(
        key=SessionKey(text="s"),
        session=None,  # type: ignore[arg-type] - no turn of these ends
        user_turn=UserTurn("u", opens=True),
        plan=TurnPlan(compacts=True),
    )
    return Course(
        incoming=cast("Incoming", turned_to(LOCAL, services)),
        begun=begun,
        services=cast("Services", services),
        plan=plans.plan,
    )


async def test_the_session_meets_the_family_before_the_familys_request_is_planned() -> None:
    plans = Plans()
    legs = course(plans)
    await legs.open(LOCAL)
    await legs.open(CODEX)
    assert plans.happened == ["q compacted", "meets the family (True)", "gpt-5.5 whole"]


async def test_of_a_first_leg_the_session_was_told_when_the_turn_began() -> None:
    plans = Plans()
    await course(plans).open(CODEX)
    assert plans.happened == ["gpt-5.5 whole"]


async def test_a_leg_that_was_compacted_is_planned_anew_behind_the_family() -> None:
    plans = Plans()
    legs = course(plans)
    first = await legs.open(LOCAL)
    assert first.anew() is None
    await legs.open(CODEX)
    again = first.anew()
    assert again is not None
    leg: Leg = await again()
    assert plans.happened[-1] == "q whole"
    assert leg.anew() is None
    assert not legs.planned(leg).lightened.compacted


async def test_a_leg_goes_with_its_turn_without_the_garbage_collector() -> None:
    legs = course(Plans())
    leg = await legs.open(CODEX)
    assert legs.planned(leg).incoming.choice is CODEX
    left = weakref.ref(leg)
    del leg
    assert left() is None


def test_a_request_that_is_committed_keeps_only_what_its_end_asks_for() -> None:
    reasoning: JsonObject = {"type": "reasoning", "encrypted_content": "made by Codex"}
    requests = UpstreamRequests(
        path="/responses",
        accept="text/event-stream",
        client_headers={"user-agent": "made-up"},
        plan=TurnPlan(),
        body={"model": "gpt-5.5", "input": [reasoning]},
        session_id="s",
    )
    requests("account", stripped=False)
    sent = requests.encrypted_sent
    assert len(sent) == 1
    requests.let_go()
    assert requests.encrypted_sent == sent
    assert not requests.body
    assert not requests.client_headers


async def test_the_legs_of_a_turn_count_their_handshakes_together() -> None:
    legs = course(Plans())
    incoming = cast("Incoming", SimpleNamespace(framed=None))
    first = socket_turn(incoming, legs.begun)
    first.handshakes += 1
    assert socket_turn(incoming, legs.begun).handshakes == 1
