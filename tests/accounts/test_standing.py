from __future__ import annotations

import attrs
import pytest

from codexrelay.accounts.account import Account, Attention, UsageLimit
from codexrelay.accounts.standing import (
    DEFAULT_PAUSE_S,
    EFFECTS,
    FIRST_REFUSAL_S,
    LONGEST_PAUSE_S,
    LONGEST_REFUSAL_S,
    MAX_REFUSED_MODELS,
    MAX_REJECTED_TOKENS,
    MIN_PAUSE_S,
    NO_CODEX_S,
    NO_MODEL_S,
    NO_REFRESH_TOKEN_REASON,
    PROBE_EVERY_S,
    Effect,
    Saving,
    Standing,
    Why,
    refusal_s,
)
from codexrelay.protocol.faults import DEFAULT_COOL_DOWN_S, Fault, FaultKind
from codexrelay.protocol.limits import Credits, Limits, Window
from tests.fakes.faults import a_fault
from tests.fakes.tokens import an_account
from tests.fakes.wall_clock import NOW_UNIX_S as NOW

DAY_S = 24 * 3600.0
LIMITED = a_fault(FaultKind.LIMITED, resets_at_unix_s=NOW + DAY_S)
UNUSABLE = a_fault(FaultKind.UNUSABLE, status=403, code="usage_not_included", message="No Codex.")
ATTENTION = Attention(code="usage_not_included", message="No Codex.", since_unix_s=NOW)


def standing_of(
    account: Account | None = None, *, probe_every_s: float = PROBE_EVERY_S
) -> Standing:
    account = account or an_account()
    return Standing.of(account, probe_every_s=probe_every_s, now_unix_s=NOW)


def suffer(
    standing: Standing,
    fault: Fault,
    *,
    model: str | None = None,
    leased_at: float = NOW,
    now: float = NOW,
) -> None:
    standing.suffer(fault, model=model, leased_at_unix_s=leased_at, now_unix_s=now)


def why(standing: Standing, *, now: float = NOW, model: str | None = None) -> Why | None:
    passed = standing.obstacle(now_unix_s=now, model=model)
    return None if passed is None else passed.why


def limits(
    observed: float,
    *,
    used_percent: float = 100.0,
    resets_at: float | None = None,
    reached: bool | None = None,
    credits: Credits | None = None,
) -> Limits:
    return Limits(
        observed_unix_s=observed,
        primary=Window(used_percent=used_percent, resets_at_unix_s=resets_at),
        reached=reached,
        credits=credits,
    )


# What each fault does.


def test_every_kind_of_fault_has_an_effect() -> None:
    assert set(EFFECTS) == set(FaultKind)


@pytest.mark.parametrize(
    ("kind", "obstacle", "lasts_s"),
    [
        (FaultKind.LIMITED, Why.COOLING, DEFAULT_COOL_DOWN_S),
        (FaultKind.THROTTLED, Why.PAUSED, DEFAULT_PAUSE_S),
        (FaultKind.UNUSABLE, Why.SET_ASIDE, NO_CODEX_S),
        (FaultKind.UNSUPPORTED, Why.NO_MODEL, NO_MODEL_S),
        (FaultKind.UNAUTHORIZED, None, 0),  # the token is refreshed first
        (FaultKind.FORBIDDEN, None, 0),
        (FaultKind.OVERLOADED, None, 0),
        (FaultKind.BROKEN, None, 0),
        (FaultKind.SLOW, None, 0),
        (FaultKind.UNREADABLE, None, 0),
        (FaultKind.REFUSED, None, 0),
    ],
    ids=lambda value: value.value if isinstance(value, FaultKind) else None,
)
def test_a_fault_keeps_the_account_from_turns_for_a_while(
    kind: FaultKind, obstacle: Why | None, lasts_s: float
) -> None:
    standing = standing_of()
    suffer(standing, a_fault(kind), model="gpt")
    assert why(standing, model="gpt") is obstacle
    assert why(standing, model="gpt", now=NOW + lasts_s - 0.5) is (obstacle if lasts_s else None)
    assert why(standing, model="gpt", now=NOW + lasts_s) is None


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if EFFECTS[kind] is Effect.NONE])
def test_a_fault_that_is_not_the_accounts_changes_nothing(kind: FaultKind) -> None:
    standing = standing_of()
    before = attrs.asdict(standing, recurse=False)
    suffer(standing, a_fault(kind), model="gpt")
    assert attrs.asdict(standing, recurse=False) == before


# Usage limits.


@pytest.mark.parametrize("resets_at", [None, NOW, NOW - 1])
def test_a_limit_without_a_reset_to_come_cools_for_the_default(resets_at: float | None) -> None:
    standing = standing_of()
    suffer(standing, a_fault(FaultKind.LIMITED, resets_at_unix_s=resets_at))
    assert why(standing, now=NOW + DEFAULT_COOL_DOWN_S - 1) is Why.COOLING
    assert why(standing, now=NOW + DEFAULT_COOL_DOWN_S) is None


def test_what_the_limit_said_is_kept_to_be_shown() -> None:
    standing = standing_of()
    error = LIMITED.error | {"plan_type": "plus"}
    suffer(standing, attrs.evolve(LIMITED, error=error))
    assert standing.account.usage_limit == UsageLimit(
        error_type="some_type",
        message="words",
        plan_type="plus",
        resets_at_unix_s=NOW + DAY_S,
        observed_unix_s=NOW,
    )


@pytest.mark.parametrize(
    ("second_reset", "leased_at", "until"),
    [
        pytest.param(NOW + 60, NOW, NOW + DAY_S, id="an old turn was told less"),
        pytest.param(NOW + 2 * DAY_S, NOW, NOW + 2 * DAY_S, id="an old turn was told more"),
        pytest.param(NOW + 60, NOW + 5, NOW + 60, id="a new turn was told an earlier reset"),
        pytest.param(NOW + 2 * DAY_S, NOW + 5, NOW + 2 * DAY_S, id="a new turn was told a later"),
        pytest.param(None, NOW + 5, NOW + DAY_S, id="a new turn was told no reset"),
    ],
)
def test_of_two_resets_the_later_counts_unless_the_second_is_fresher(
    second_reset: float | None, leased_at: float, until: float
) -> None:
    standing = standing_of()
    suffer(standing, LIMITED)
    again = a_fault(FaultKind.LIMITED, resets_at_unix_s=second_reset)
    suffer(standing, again, leased_at=leased_at, now=NOW + 10)
    assert standing.account.rate_limited_until_unix_s == until


@pytest.mark.parametrize(
    ("leased_after_s", "lifted"), [(-60.0, False), (0.0, False), (0.1, True), (60.0, True)]
)
def test_a_turn_lifts_the_limit_when_it_was_leased_after_it_was_met(
    leased_after_s: float, lifted: bool
) -> None:
    standing = standing_of()
    suffer(standing, LIMITED)
    standing.accept(leased_at_unix_s=NOW + leased_after_s, now_unix_s=NOW + 100)
    assert (standing.account.rate_limited_until_unix_s is None) is lifted
    assert standing.is_unproved is not lifted
    assert why(standing, now=NOW + 100) is (None if lifted else Why.COOLING)


@pytest.mark.parametrize(
    ("seen", "until"),
    [
        pytest.param(limits(NOW + 5, used_percent=40), None, id="there is quota: lifted"),
        pytest.param(limits(NOW + 5, resets_at=NOW + 60), NOW + 60, id="earlier: shortened"),
        pytest.param(
            limits(NOW + 5, resets_at=NOW + 3 * DAY_S), NOW + 3 * DAY_S, id="later: lengthened"
        ),
        pytest.param(limits(NOW + 5), NOW + DAY_S, id="spent, until when is not said"),
        pytest.param(limits(NOW + 5, reached=False), None, id="not reached, says the backend"),
        pytest.param(
            limits(NOW + 5, credits=Credits(has_credits=True)), None, id="credits pay: lifted"
        ),
        pytest.param(limits(NOW, used_percent=40), NOW + DAY_S, id="said with the limit itself"),
        pytest.param(limits(NOW - 5, used_percent=40), NOW + DAY_S, id="older: nothing"),
        pytest.param(limits(NOW - 5, resets_at=NOW + 60), NOW + DAY_S, id="older reset: nothing"),
        pytest.param(
            limits(NOW + 5, resets_at=NOW + DAY_S + 0.4), NOW + DAY_S, id="the same, rounded"
        ),
    ],
)
def test_a_fresher_word_of_the_quota_corrects_the_cool_down(
    seen: Limits, until: float | None
) -> None:
    standing = standing_of()
    suffer(standing, LIMITED)
    standing.take_unsaved()
    standing.observe(seen)
    assert standing.account.rate_limited_until_unix_s == until
    assert standing.account.limits == seen
    assert standing.saving is (Saving.LATER if until == NOW + DAY_S else Saving.NOW)


def test_an_older_word_of_the_quota_does_not_replace_a_newer_one() -> None:
    standing = standing_of()
    newer, older = limits(NOW, used_percent=50), limits(NOW - 1, used_percent=10)
    standing.observe(newer)
    standing.observe(older)
    assert standing.account.limits == newer


def test_a_spent_quota_alone_cools_nobody() -> None:
    standing = standing_of()
    standing.observe(limits(NOW, resets_at=NOW + 60))
    assert why(standing) is None


# Probes.


def test_a_probe_is_due_after_a_while_and_again_after_it_failed() -> None:
    standing = standing_of()
    suffer(standing, LIMITED)
    assert why(standing, now=NOW + PROBE_EVERY_S - 1) is Why.COOLING
    due = NOW + PROBE_EVERY_S
    assert why(standing, now=due) is None
    standing.probes += 1
    assert why(standing, now=due + 60) is Why.COOLING  # one at a time
    suffer(standing, LIMITED, leased_at=due, now=due + 60)
    standing.probes -= 1
    assert why(standing, now=due + 60 + PROBE_EVERY_S - 1) is Why.COOLING
    assert why(standing, now=due + 60 + PROBE_EVERY_S) is None


def test_a_probe_that_found_nothing_out_is_followed_by_another_one() -> None:
    standing = standing_of()
    suffer(standing, LIMITED)
    due = NOW + PROBE_EVERY_S
    standing.probes += 1
    suffer(standing, a_fault(FaultKind.OVERLOADED), leased_at=due, now=due + 1)
    standing.probes -= 1
    assert why(standing, now=due + 1) is None


def test_without_a_cap_the_reset_is_waited_for() -> None:
    standing = standing_of(probe_every_s=0)
    suffer(standing, LIMITED)
    assert why(standing, now=NOW + DAY_S - 1) is Why.COOLING
    assert why(standing, now=NOW + DAY_S) is None


@pytest.mark.parametrize("told", [True, False], ids=["told since when", "not told since when"])
def test_a_stored_cool_down_is_probed_as_long_after_it_began(told: bool) -> None:
    account = an_account(limited_until_unix_s=NOW + DAY_S)
    if told:
        met = UsageLimit(observed_unix_s=NOW - PROBE_EVERY_S + 60)
        account = attrs.evolve(account, usage_limit=met)
    standing = standing_of(account)
    due = NOW + (60 if told else PROBE_EVERY_S)
    assert why(standing) is Why.COOLING  # the first look
    assert why(standing, now=due - 1) is Why.COOLING
    assert why(standing, now=due) is None


@pytest.mark.parametrize("probe_every_s", [0.0, PROBE_EVERY_S])
def test_a_stored_cool_down_is_lifted_by_a_fresher_word_too(probe_every_s: float) -> None:
    standing = standing_of(
        an_account(limited_until_unix_s=NOW + DAY_S), probe_every_s=probe_every_s
    )
    assert why(standing) is Why.COOLING
    standing.observe(limits(NOW + 1, used_percent=10))
    assert why(standing, now=NOW + 1) is None


# Pauses.


@pytest.mark.parametrize(
    ("stated_s", "lasts_s"),
    [(None, DEFAULT_PAUSE_S), (0.0, MIN_PAUSE_S), (11.5, 11.5), (86_400.0, LONGEST_PAUSE_S)],
)
def test_an_account_that_was_asked_too_fast_rests_for_the_stated_seconds(
    stated_s: float | None, lasts_s: float
) -> None:
    standing = standing_of()
    fault = a_fault(FaultKind.THROTTLED, status=429, code="slow", retry_after_s=stated_s)
    suffer(standing, fault)
    assert why(standing, now=NOW + lasts_s) is None
    passed = standing.obstacle(now_unix_s=NOW + lasts_s - 0.5)
    assert passed is not None
    assert (passed.why, passed.reason, passed.fault) == (Why.PAUSED, "429 slow", fault)
    assert passed.until_unix_s == NOW + lasts_s
    assert standing.saving is Saving.NO


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    standing = standing_of()
    suffer(standing, a_fault(FaultKind.THROTTLED, retry_after_s=60))
    suffer(standing, a_fault(FaultKind.THROTTLED, retry_after_s=5), now=NOW + 1)
    assert why(standing, now=NOW + 59) is Why.PAUSED


def test_an_account_that_rests_is_told_as_it_stands() -> None:
    standing = standing_of()
    suffer(standing, a_fault(FaultKind.THROTTLED, retry_after_s=60))
    standing.reread(an_account(token="access-2"), now_unix_s=NOW)
    passed = standing.obstacle(now_unix_s=NOW)
    assert passed is not None
    assert passed.account is standing.account


# An account without Codex.


def test_an_account_without_codex_needs_attention_until_a_turn_is_served() -> None:
    standing = standing_of()
    suffer(standing, UNUSABLE)
    assert standing.account.attention == ATTENTION
    assert standing.saving is Saving.NOW
    standing.take_unsaved()
    suffer(standing, UNUSABLE, now=NOW + NO_CODEX_S)
    assert standing.account.attention == ATTENTION  # since the first time
    assert standing.saving is Saving.NO
    standing.accept(leased_at_unix_s=NOW + 2 * NO_CODEX_S, now_unix_s=NOW + 2 * NO_CODEX_S + 1)
    assert standing.account.attention is None
    assert standing.saving is Saving.NOW
    assert why(standing, now=NOW + NO_CODEX_S + 1) is None


def test_a_turn_leased_before_the_account_was_turned_away_proves_nothing() -> None:
    standing = standing_of()
    suffer(standing, UNUSABLE)
    standing.accept(leased_at_unix_s=NOW, now_unix_s=NOW + 60)
    assert standing.account.attention == ATTENTION
    assert why(standing, now=NOW + 60) is Why.SET_ASIDE


def test_another_reason_for_attention_replaces_the_first() -> None:
    standing = standing_of()
    suffer(standing, UNUSABLE)
    other = a_fault(FaultKind.UNUSABLE, code="deactivated_workspace")
    suffer(standing, other, now=NOW + 5)
    assert standing.account.attention == Attention(
        code="deactivated_workspace", message="words", since_unix_s=NOW + 5
    )


@pytest.mark.parametrize("change", ["attention", "plan_type", "workspace_id"])
def test_an_account_without_codex_is_tried_again_once_its_owner_has_acted(change: str) -> None:
    standing = standing_of()
    suffer(standing, UNUSABLE)
    standing.take_unsaved()
    stored = attrs.evolve(standing.stored, attention=ATTENTION)
    standing.reread(stored, now_unix_s=NOW)
    assert why(standing) is Why.SET_ASIDE
    value = None if change == "attention" else "another"
    standing.reread(attrs.evolve(stored, **{change: value}), now_unix_s=NOW)  # type: ignore[arg-type] - a name
    assert why(standing) is None


@pytest.mark.parametrize(
    ("kind", "named"),
    [(FaultKind.UNUSABLE, "403 some_type"), (FaultKind.THROTTLED, "403 some_type")],
)
def test_a_fault_is_named_by_its_type_where_it_has_no_code(kind: FaultKind, named: str) -> None:
    standing = standing_of()
    suffer(standing, a_fault(kind, status=403))
    passed = standing.obstacle(now_unix_s=NOW)
    assert passed is not None
    assert passed.reason == named


@pytest.mark.parametrize("begins", ["of", "reread"])
def test_an_account_that_another_process_was_turned_away_with_is_not_asked_either(
    begins: str,
) -> None:
    stored = attrs.evolve(an_account(), attention=attrs.evolve(ATTENTION, since_unix_s=NOW - 600))
    standing = standing_of(stored if begins == "of" else an_account())
    standing.reread(stored, now_unix_s=NOW)
    passed = standing.obstacle(now_unix_s=NOW)
    assert passed is not None
    assert (passed.why, passed.reason) == (Why.SET_ASIDE, "403 usage_not_included")
    assert passed.until_unix_s == NOW - 600 + NO_CODEX_S
    assert passed.fault is not None
    told = (passed.fault.kind, passed.fault.type, passed.fault.code, passed.fault.message)
    assert told == (
        FaultKind.UNUSABLE,
        "usage_not_included",
        "usage_not_included",
        "No Codex.",
    )
    assert why(standing, now=NOW - 600 + NO_CODEX_S) is None, "one turn tries it then"
    standing.reread(an_account(), now_unix_s=NOW)
    assert why(standing) is None, "the owner has looked at it"


def test_a_note_of_the_future_keeps_an_account_from_turns_no_longer_than_one_of_now() -> None:
    later = attrs.evolve(ATTENTION, since_unix_s=NOW + DAY_S)
    standing = standing_of(attrs.evolve(an_account(), attention=later))
    assert why(standing, now=NOW + NO_CODEX_S - 1) is Why.SET_ASIDE
    assert why(standing, now=NOW + NO_CODEX_S) is None


def test_a_note_that_is_known_does_not_set_the_account_aside_again() -> None:
    stored = attrs.evolve(an_account(), attention=ATTENTION)
    standing = standing_of(stored)
    standing.reread(attrs.evolve(stored, plan_type="pro"), now_unix_s=NOW)  # bought meanwhile
    assert why(standing) is None
    rounded = attrs.evolve(ATTENTION, since_unix_s=NOW + 0.0004)
    standing.reread(attrs.evolve(stored, plan_type="pro", attention=rounded), now_unix_s=NOW)
    assert why(standing) is None


def test_a_note_does_not_shorten_the_time_aside() -> None:
    standing = standing_of()
    suffer(standing, UNUSABLE, now=NOW + 60)
    older = attrs.evolve(ATTENTION, code="deactivated_workspace")
    standing.note_saved(standing.account)
    standing.reread(attrs.evolve(an_account(), attention=older), now_unix_s=NOW + 61)
    assert why(standing, now=NOW + 60 + NO_CODEX_S - 1) is Why.SET_ASIDE


def test_new_tokens_do_not_bring_back_an_account_without_codex() -> None:
    standing = standing_of()
    suffer(standing, UNUSABLE)
    standing.reread(an_account(token="access-2", refresh_token="refresh-2"), now_unix_s=NOW)
    standing.accept_token()
    assert why(standing) is Why.SET_ASIDE


# Models.


def test_a_refused_model_is_refused_for_this_model_only_and_for_a_while() -> None:
    standing = standing_of()
    suffer(standing, a_fault(FaultKind.UNSUPPORTED), model="pro-only")
    assert why(standing, model="pro-only", now=NOW + NO_MODEL_S - 1) is Why.NO_MODEL
    assert why(standing, model="pro-only", now=NOW + NO_MODEL_S) is None
    assert why(standing, model="another") is None
    assert why(standing) is None


def test_a_refused_model_is_asked_for_again_with_another_plan() -> None:
    standing = standing_of(an_account(plan_type="free"))
    suffer(standing, a_fault(FaultKind.UNSUPPORTED), model="pro-only")
    standing.reread(an_account(plan_type="free", token="access-2"), now_unix_s=NOW)
    assert why(standing, model="pro-only") is Why.NO_MODEL
    standing.reread(an_account(plan_type="pro", token="access-2"), now_unix_s=NOW)
    assert why(standing, model="pro-only") is None


def test_so_many_refused_models_are_remembered_and_no_more() -> None:
    standing = standing_of()
    for number in range(MAX_REFUSED_MODELS + 5):
        suffer(standing, a_fault(FaultKind.UNSUPPORTED), model=f"invented-{number}")
    assert len(standing.no_model) == MAX_REFUSED_MODELS
    assert why(standing, model="invented-0") is None
    assert why(standing, model=f"invented-{MAX_REFUSED_MODELS + 4}") is Why.NO_MODEL


def test_a_model_that_is_not_named_teaches_nothing() -> None:
    standing = standing_of()
    suffer(standing, a_fault(FaultKind.UNSUPPORTED))
    assert standing.no_model == {}


@pytest.mark.parametrize(
    ("plan", "plans", "refused"),
    [
        ("free", frozenset({"plus", "pro"}), True),
        ("plus", frozenset({"plus", "pro"}), False),
        (None, frozenset({"plus"}), False),
        ("free", None, False),
        ("free", frozenset(), False),
    ],
)
def test_an_account_is_asked_unless_its_plan_is_known_not_to_offer_the_model(
    plan: str | None, plans: frozenset[str] | None, refused: bool
) -> None:
    standing = standing_of(an_account(plan_type=plan))
    passed = standing.obstacle(now_unix_s=NOW, model="gpt", plans=plans)
    assert (passed is not None and passed.why is Why.NO_MODEL) is refused


@pytest.mark.parametrize(
    ("claim", "heard", "reason"),
    [
        ("free", "plus", None),  # bought since the token was made
        ("plus", "free", None),  # a word of another day
        (None, "free", "free"),
        ("free", "go", "go"),
        ("free", None, "free"),
    ],
)
def test_an_account_is_asked_if_its_claim_or_the_backends_last_word_is_a_plan_with_the_model(
    claim: str | None, heard: str | None, reason: str | None
) -> None:
    standing = standing_of(an_account(plan_type=claim))
    standing.observe(attrs.evolve(limits(NOW, used_percent=1), plan_type=heard))
    passed = standing.obstacle(now_unix_s=NOW, model="gpt", plans=frozenset({"plus", "pro"}))
    assert (None if passed is None else (passed.why, passed.reason)) == (
        None if reason is None else (Why.NO_MODEL, reason)
    )


@pytest.mark.parametrize("fault", [LIMITED, UNUSABLE, a_fault(FaultKind.THROTTLED)])
def test_what_would_pass_is_not_told_of_an_account_that_has_not_got_the_model(
    fault: Fault,
) -> None:
    standing = standing_of(an_account(plan_type="free"))
    suffer(standing, fault)
    passed = standing.obstacle(now_unix_s=NOW, model="gpt", plans=frozenset({"plus"}))
    assert passed is not None
    assert (passed.why, passed.until_unix_s) == (Why.NO_MODEL, None)


# Tokens.


@pytest.mark.parametrize("rejected", [True, False])
def test_without_a_refresh_token_the_owner_must_sign_in_once_the_token_is_no_good(
    rejected: bool,
) -> None:
    standing = standing_of(an_account(refresh_token=None, expires_at_unix_s=NOW + 60))
    if rejected:
        standing.rejected_token = standing.account.credentials.access_token
    passed = standing.obstacle(now_unix_s=NOW if rejected else NOW + 60)
    assert passed is not None
    assert (passed.why, passed.reason) == (Why.NEEDS_REAUTH, NO_REFRESH_TOKEN_REASON)


def test_the_time_aside_grows_to_a_quarter_of_an_hour() -> None:
    assert [refusal_s(times) for times in (1, 2, 1_000_000)] == [60, 120, LONGEST_REFUSAL_S]


def test_tokens_that_are_rejected_in_a_row_set_the_account_aside_and_store_nothing() -> None:
    standing = standing_of(an_account(token="access-0"))
    for serial in range(MAX_REJECTED_TOKENS):
        assert why(standing) is None
        standing.reread(an_account(token=f"access-{serial}"), now_unix_s=NOW)
        suffer(standing, a_fault(FaultKind.UNAUTHORIZED))
    assert why(standing, now=NOW + FIRST_REFUSAL_S - 1) is Why.SET_ASIDE
    assert why(standing, now=NOW + FIRST_REFUSAL_S) is None
    assert standing.saving is Saving.NO
    assert standing.account.needs_reauth is None


# Files: what others have written, and what is written here.


def set_limit(until: float | None, *, met_at: float | None = None) -> Account:
    usage_limit = None if met_at is None else UsageLimit(observed_unix_s=met_at)
    return attrs.evolve(an_account(limited_until_unix_s=until), usage_limit=usage_limit)


def test_a_cool_down_of_another_process_is_taken_over_with_when_it_began() -> None:
    standing = standing_of()
    standing.reread(set_limit(NOW + DAY_S, met_at=NOW - 60), now_unix_s=NOW)
    assert why(standing) is Why.COOLING
    assert standing.limited_at_unix_s == NOW - 60
    assert why(standing, now=NOW - 60 + PROBE_EVERY_S) is None
    standing.reread(set_limit(NOW + DAY_S, met_at=NOW + 60), now_unix_s=NOW)  # it has probed
    assert why(standing, now=NOW - 60 + PROBE_EVERY_S) is Why.COOLING
    by_hand = set_limit(NOW + 2 * DAY_S, met_at=NOW + 60)
    standing.reread(by_hand, now_unix_s=NOW + 90)
    assert standing.limited_at_unix_s == NOW + 90


def test_a_lift_of_another_process_is_taken_over() -> None:
    standing = standing_of()
    suffer(standing, LIMITED)
    standing.take_unsaved()
    standing.reread(set_limit(NOW + DAY_S, met_at=NOW), now_unix_s=NOW)
    assert why(standing) is Why.COOLING
    standing.reread(set_limit(None, met_at=NOW), now_unix_s=NOW)
    assert why(standing) is None
    assert not standing.is_unproved


@pytest.mark.parametrize("saved", [True, False])
def test_a_fresher_word_of_the_quota_in_the_file_corrects_the_cool_down(saved: bool) -> None:
    standing = standing_of()
    suffer(standing, LIMITED)
    if saved:
        standing.take_unsaved()
    told = attrs.evolve(standing.stored, limits=limits(NOW + 5, resets_at=NOW + 60))
    standing.reread(told, now_unix_s=NOW)
    assert standing.account.rate_limited_until_unix_s == NOW + 60
    standing.reread(attrs.evolve(told, limits=limits(NOW + 10, used_percent=10)), now_unix_s=NOW)
    assert standing.account.rate_limited_until_unix_s is None
    assert standing.saving is Saving.NOW


def test_figures_that_were_stored_before_the_limit_lift_nothing() -> None:
    standing = standing_of()
    suffer(standing, LIMITED)
    standing.reread(
        attrs.evolve(standing.stored, limits=limits(NOW - 5, used_percent=10)), now_unix_s=NOW
    )
    assert why(standing) is Why.COOLING


def test_attention_of_another_process_is_taken_over_and_so_is_its_end() -> None:
    standing = standing_of()
    standing.reread(attrs.evolve(an_account(), attention=ATTENTION), now_unix_s=NOW)
    assert standing.account.attention == ATTENTION
    standing.reread(an_account(), now_unix_s=NOW)
    assert standing.account.attention is None


@pytest.mark.parametrize(
    ("field", "ours", "theirs"),
    [
        ("rate_limited_until_unix_s", NOW + DAY_S, NOW + 60),
        ("usage_limit", UsageLimit(message="ours"), UsageLimit(message="theirs")),
        ("attention", ATTENTION, attrs.evolve(ATTENTION, code="theirs")),
    ],
)
def test_what_is_not_stored_yet_stands_and_nothing_else_does(
    field: str, ours: object, theirs: object
) -> None:
    standing = standing_of()
    standing.account = attrs.evolve(standing.account, **{field: ours})  # type: ignore[arg-type]
    standing.saving = Saving.NOW
    stored = attrs.evolve(an_account(), last_used_unix_s=NOW, **{field: theirs})  # type: ignore[arg-type]
    standing.reread(stored, now_unix_s=NOW)
    assert getattr(standing.account, field) == ours
    assert standing.account.last_used_unix_s == NOW
    assert getattr(standing.take_unsaved(), field) == theirs  # so it will be written
    standing.note_saved(standing.account)
    standing.reread(attrs.evolve(stored, **{field: None}), now_unix_s=NOW)  # type: ignore[arg-type]
    assert getattr(standing.account, field) is None  # another has changed what was stored


def test_what_another_process_has_stored_is_not_undone_by_something_else_that_is_unsaved() -> None:
    standing = standing_of()
    suffer(standing, UNUSABLE)  # waits to be saved
    standing.reread(an_account(limited_until_unix_s=NOW + 60), now_unix_s=NOW)
    assert standing.account.rate_limited_until_unix_s == NOW + 60
    before = standing.take_unsaved()
    assert before.rate_limited_until_unix_s == NOW + 60  # no change, so it is not written
    assert (before.attention, standing.account.attention) == (None, ATTENTION)


def test_what_was_written_here_comes_back_rounded_and_changes_nothing() -> None:
    standing = standing_of()
    suffer(standing, a_fault(FaultKind.LIMITED, resets_at_unix_s=NOW + 60.00049), now=NOW + 0.00012)
    standing.take_unsaved()
    assert standing.account.usage_limit is not None
    rounded = attrs.evolve(
        standing.account,
        rate_limited_until_unix_s=NOW + 60,
        usage_limit=attrs.evolve(standing.account.usage_limit, observed_unix_s=NOW),
    )
    standing.reread(rounded, now_unix_s=NOW)
    assert standing.limited_at_unix_s == NOW + 0.00012
    assert standing.saving is Saving.NO
    standing.reread(attrs.evolve(rounded, usage_limit=standing.account.usage_limit), now_unix_s=NOW)
    assert standing.limited_at_unix_s == NOW + 0.00012


def test_the_latest_use_and_the_freshest_figures_win_whoever_has_them() -> None:
    standing = standing_of()
    standing.accept(leased_at_unix_s=NOW, now_unix_s=NOW)
    standing.observe(limits(NOW, used_percent=1))
    older = attrs.evolve(an_account(), last_used_unix_s=NOW - 5, limits=limits(NOW - 5))
    standing.reread(older, now_unix_s=NOW)
    assert standing.account.last_used_unix_s == NOW
    assert standing.account.limits == limits(NOW, used_percent=1)
    newer = attrs.evolve(an_account(), last_used_unix_s=NOW + 5, limits=limits(NOW + 5))
    standing.reread(newer, now_unix_s=NOW)
    assert (standing.account.last_used_unix_s, standing.account.limits) == (NOW + 5, newer.limits)


@pytest.mark.parametrize(
    ("learn", "saving"),
    [
        pytest.param(lambda s: suffer(s, LIMITED), Saving.NOW, id="a usage limit"),
        pytest.param(lambda s: suffer(s, UNUSABLE), Saving.NOW, id="attention"),
        pytest.param(
            lambda s: s.accept(leased_at_unix_s=NOW, now_unix_s=NOW), Saving.LATER, id="a turn"
        ),
        pytest.param(lambda s: s.observe(limits(NOW)), Saving.LATER, id="figures"),
        pytest.param(lambda s: suffer(s, a_fault(FaultKind.THROTTLED)), Saving.NO, id="a pause"),
        pytest.param(
            lambda s: suffer(s, a_fault(FaultKind.UNSUPPORTED), model="x"), Saving.NO, id="a model"
        ),
        pytest.param(lambda s: suffer(s, a_fault(FaultKind.UNAUTHORIZED)), Saving.NO, id="a 401"),
    ],
)
def test_what_others_would_miss_is_stored_now_the_rest_later(learn: object, saving: Saving) -> None:
    standing = standing_of()
    assert callable(learn)
    learn(standing)
    assert standing.saving is saving


def test_urgent_news_stay_urgent_when_something_lesser_follows() -> None:
    standing = standing_of()
    suffer(standing, LIMITED)
    standing.accept(leased_at_unix_s=NOW, now_unix_s=NOW + 1)
    standing.observe(limits(NOW + 1, resets_at=NOW + DAY_S))
    assert standing.saving is Saving.NOW
