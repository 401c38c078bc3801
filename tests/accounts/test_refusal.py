from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest

from codexrelay.accounts.pool import Ask
from codexrelay.accounts.refusal import in_words_of, refusal_of
from codexrelay.accounts.standing import NO_REFRESH_TOKEN_REASON, PassedOver, Why
from codexrelay.errors import (
    AccountError,
    AllLimitedError,
    AllTriedError,
    ModelNotOfferedError,
    NeedsReauthError,
    NoAccountError,
    RefreshUnavailableError,
    ThrottledError,
    TurnedAwayError,
    UnusableFilesError,
)
from codexrelay.protocol.faults import FaultKind
from codexrelay.protocol.limits import Limits
from tests.fakes.faults import a_fault
from tests.fakes.tokens import an_account
from tests.fakes.wall_clock import NOW_UNIX_S as NOW

if TYPE_CHECKING:
    from codexrelay.accounts.account import Account

NO_CODEX = a_fault(
    FaultKind.UNUSABLE, status=403, code="usage_not_included", message="No Codex here."
)
EXPIRED = a_fault(FaultKind.UNAUTHORIZED, status=401, code="token_expired")
TOO_FAST = a_fault(FaultKind.THROTTLED, status=429, message="Slow down, please.")
NOTHING = NoAccountError(looked_in="no account file in X")


def passed(name: str, why: Why, *, plan_type: str | None = "plus", **more: object) -> PassedOver:
    account = an_account(name, plan_type=plan_type)
    return PassedOver(account=account, why=why, **more)  # type: ignore[arg-type] - as given


def of_codex_cli(one: PassedOver) -> PassedOver:
    account: Account = attrs.evolve(one.account, id="codex-cli", origin="legacy")
    return attrs.evolve(one, account=account)


COOLING = passed("cooling", Why.COOLING, until_unix_s=NOW + 120)
COOLING_LONGER = passed("later", Why.COOLING, until_unix_s=NOW + 7200)
DEAD = passed("dead", Why.NEEDS_REAUTH, reason="refresh_token_reused")
DEAD_TOO = passed("dead-too", Why.NEEDS_REAUTH, reason=NO_REFRESH_TOKEN_REASON)
ASIDE = passed(
    "aside",
    Why.SET_ASIDE,
    reason="403 usage_not_included",
    fault=NO_CODEX,
    until_unix_s=NOW + 3600,
)
REFUSED = passed(
    "refused", Why.SET_ASIDE, reason="401 token_expired", fault=EXPIRED, until_unix_s=NOW + 60
)
LEFT_ALONE = attrs.evolve(REFUSED, account=an_account("left", refresh_token=None))
PAUSED = passed("paused", Why.PAUSED, reason="429", fault=TOO_FAST, until_unix_s=NOW + 4.5)
PAUSED_LONGER = passed("paused-longer", Why.PAUSED, fault=EXPIRED, until_unix_s=NOW + 60)
FREE = passed("free", Why.NO_MODEL, plan_type="free", reason="free")
TAUGHT = passed("taught", Why.NO_MODEL, plan_type=None, until_unix_s=NOW + 3600)
TRIED = passed("tried", Why.RULED_OUT)
AWAY = {"tried": "issuer away"}


def refusal(
    passed_over: tuple[PassedOver, ...],
    stuck: dict[str, str],
    *,
    nothing: AccountError = NOTHING,
    plans: frozenset[str] | None = frozenset({"plus", "pro"}),
) -> AccountError:
    ask = Ask(model="gpt-x", plans=plans)
    return refusal_of(passed_over, stuck, ask=ask, nothing=nothing, now_unix_s=NOW)


@pytest.mark.parametrize(
    ("passed_over", "stuck", "expected", "words"),
    [
        pytest.param((), {}, NoAccountError, "no account file in X", id="none at all"),
        pytest.param((), {}, NoAccountError, "`codexrelay accounts add`", id="none: the command"),
        # Quota.
        pytest.param((COOLING,), {}, AllLimitedError, "account cooling is free", id="quota"),
        pytest.param(
            (COOLING, DEAD),
            {},
            AllLimitedError,
            "account cooling is free again in 2 min: account cooling waits 2 min for its quota; "
            "account dead must sign in again (refresh_token_reused)",
            id="quota, and each one's reason",
        ),
        pytest.param(
            (COOLING_LONGER, COOLING),
            {},
            AllLimitedError,
            "every account; cooling is free again in 2 min: account later waits 2 h for its quota; "
            "account cooling waits 2 min for its quota",
            id="quota of two",
        ),
        pytest.param((COOLING, TRIED), {}, AllLimitedError, "cooling", id="quota, one tried"),
        pytest.param((COOLING, ASIDE), {}, AllLimitedError, "cooling", id="quota is over sooner"),
        pytest.param((COOLING, FREE), {}, AllLimitedError, "2 min", id="quota, one has no model"),
        pytest.param(
            (COOLING, REFUSED),
            {},
            TurnedAwayError,
            "401 token_expired and is tried again in 60 s",
            id="quota is over later",
        ),
        # Pauses.
        pytest.param(
            (PAUSED, PAUSED_LONGER),
            {},
            ThrottledError,
            "Slow down, please. (account paused, paused-longer; please try again in 4.5s)",
            id="too fast",
        ),
        pytest.param(
            (COOLING, PAUSED, DEAD, ASIDE, FREE),
            {},
            ThrottledError,
            "try again in 4.5s",
            id="too fast is over first",
        ),
        # Sign-in.
        pytest.param((DEAD,), {}, NeedsReauthError, "(refresh_token_reused)", id="dead"),
        pytest.param(
            (DEAD, DEAD_TOO),
            {},
            NeedsReauthError,
            "Run `codexrelay accounts update dead` or `codexrelay accounts update dead-too`",
            id="all dead: the commands",
        ),
        # Tried.
        pytest.param(
            (DEAD, TRIED), {}, AllTriedError, "account tried was tried", id="dead and tried"
        ),
        pytest.param((ASIDE, TRIED), {}, AllTriedError, "is tried again", id="aside and tried"),
        pytest.param((FREE, TRIED), {}, AllTriedError, "was tried", id="no model and tried"),
        # Turned away.
        pytest.param((DEAD, ASIDE), {}, TurnedAwayError, "No Codex here. (", id="no Codex"),
        pytest.param(
            (DEAD, ASIDE),
            {},
            TurnedAwayError,
            "account aside was turned away with 403 usage_not_included and is tried again in 1 h",
            id="no Codex, until when",
        ),
        pytest.param(
            (DEAD, ASIDE),
            {},
            TurnedAwayError,
            "in 1 h); once that is mended: `codexrelay accounts clear-reauth aside`",
            id="no Codex, the command",
        ),
        pytest.param(
            (ASIDE, REFUSED),
            {},
            TurnedAwayError,
            "`codexrelay accounts clear-reauth aside`; if tokens go on being refused: "
            "`codexrelay accounts update refused`",
            id="no Codex and refused, the commands",
        ),
        pytest.param((ASIDE, REFUSED), {}, TurnedAwayError, "words (", id="the first to return"),
        pytest.param(
            (LEFT_ALONE,), {}, TurnedAwayError, "60 s (there is no refresh token)", id="no refresh"
        ),
        # Models.
        pytest.param(
            (FREE, TAUGHT),
            {},
            ModelNotOfferedError,
            "'gpt-x' is not offered by the plan of any account: free (free), taught (plan unknown)"
            "; the plans that do: plus, pro",
            id="no model",
        ),
        pytest.param(
            (FREE, DEAD), {}, ModelNotOfferedError, "accounts add", id="no model, and one dead"
        ),
        pytest.param((FREE, ASIDE), {}, TurnedAwayError, "No Codex", id="no model, one aside"),
        # The issuer.
        pytest.param(
            (COOLING, TRIED),
            AWAY,
            RefreshUnavailableError,
            "account tried cannot be refreshed at the moment (issuer away)",
            id="issuer away",
        ),
        pytest.param(
            (COOLING, TRIED),
            AWAY,
            RefreshUnavailableError,
            "account cooling waits 2 min for its quota",
            id="issuer away, quota told too",
        ),
        pytest.param(
            (PAUSED, TRIED), AWAY, RefreshUnavailableError, "rests for 4 s", id="away and paused"
        ),
        pytest.param(
            (COOLING, DEAD),
            {"dead": "refresh_token_reused"},
            AllLimitedError,
            "2 min",
            id="quota, and the issuer is not away but has refused",
        ),
        pytest.param(
            (DEAD, TRIED),
            {"dead": "refresh_token_reused"},
            AllTriedError,
            "was tried",
            id="refused",
        ),
        pytest.param((FREE, TRIED), AWAY, RefreshUnavailableError, "away", id="away, no model"),
    ],
)
def test_the_error_says_what_stands_in_the_way(
    passed_over: tuple[PassedOver, ...], stuck: dict[str, str], expected: type, words: str
) -> None:
    error = refusal(passed_over, stuck)
    assert type(error) is expected
    assert words in str(error)


@pytest.mark.parametrize(
    ("one", "expected", "words"),
    [
        (
            COOLING,
            AllLimitedError,
            "it is free again in 2 min. Codex CLI's sign-in is a single account, so there is no "
            "other to turn to: `codexrelay accounts add` adds some",
        ),
        (DEAD, NeedsReauthError, "Run `codex login`; no restart is needed"),
        (ASIDE, TurnedAwayError, "account codex-cli was turned away with 403"),
    ],
    ids=["limit", "sign-in", "no Codex"],
)
def test_of_codex_clis_account_it_is_told_what_helps_there(
    one: PassedOver, expected: type, words: str
) -> None:
    error = refusal((of_codex_cli(one),), {})
    assert type(error) is expected
    assert words in str(error)


@pytest.mark.parametrize(
    ("one", "words"),
    [(ASIDE, "account codex-cli"), (REFUSED, "go on being refused: `codex login`")],
)
def test_of_codex_clis_account_no_command_of_ours_is_told(one: PassedOver, words: str) -> None:
    told = str(refusal((of_codex_cli(one),), {}))
    assert words in told
    assert "codexrelay accounts" not in told


def test_commands_for_a_further_instances_accounts_name_it() -> None:
    error = refusal((ASIDE, REFUSED), {})
    assert isinstance(error, TurnedAwayError)
    told = str(attrs.evolve(error, instance="openai-codex.2"))
    assert "clear-reauth aside --instance openai-codex.2`" in told
    assert "update refused --instance openai-codex.2`" in told


@pytest.mark.parametrize(
    ("one", "stuck", "plural"),
    [
        (COOLING, False, "accounts"),
        (DEAD, False, "accounts"),
        (ASIDE, False, "accounts"),
        (PAUSED, False, "accounts"),
        (FREE, False, "accounts"),
        (TRIED, False, "accounts"),
        (TRIED, True, "accounts"),
        (COOLING, False, "account"),
    ],
)
def test_of_many_accounts_some_are_named_and_the_others_counted(
    one: PassedOver, stuck: bool, plural: str
) -> None:
    count = 20 if plural == "accounts" else 9
    many = tuple(
        attrs.evolve(one, account=attrs.evolve(one.account, id=f"a{n:02}")) for n in range(count)
    )
    error = refusal(many, {f"a{n:02}": "away" for n in range(count)} if stuck else {})
    told = str(error)
    assert f"and {count - 8} more {plural}" in told
    assert f"more {plural}s" not in told
    assert [n for n in range(1, count) if f"a{n:02}" in told] == list(range(1, 8))
    assert len(getattr(error, "told", many)) == count, "the list itself is whole"


def test_a_plan_that_the_backend_refused_the_model_is_not_told_as_one_that_has_it() -> None:
    taught = passed("taught", Why.NO_MODEL, plan_type="plus", until_unix_s=NOW + 3600)
    error = refusal((FREE, taught), {})
    assert isinstance(error, ModelNotOfferedError)
    assert error.plans == ("pro",)


def test_the_plan_that_is_told_is_the_backends_last_word() -> None:
    heard = Limits(observed_unix_s=NOW, plan_type="go")
    one = attrs.evolve(FREE, account=attrs.evolve(FREE.account, limits=heard))
    assert "account free's plan (go) does not" in in_words_of(one, now_unix_s=NOW)
    assert "free (go)" in str(refusal((one,), {}))


def test_the_reset_that_is_told_is_the_first_one() -> None:
    error = refusal((COOLING_LONGER, COOLING), {})
    assert isinstance(error, AllLimitedError)
    assert (error.first.account_id, error.first.plan_type) == ("cooling", "plus")
    assert error.resets_in_s == 120
    assert not error.legacy


def test_files_that_cannot_be_used_are_not_called_absent() -> None:
    nothing = UnusableFilesError(problems=())
    assert refusal((), {}, nothing=nothing) is nothing


@pytest.mark.parametrize("why", Why)
def test_every_obstacle_has_words_and_they_name_the_account(why: Why) -> None:
    one = passed("work", why, reason="a reason", until_unix_s=NOW + 60)
    words = in_words_of(one, now_unix_s=NOW)
    assert "account work" in words
    if why is Why.RULED_OUT:
        assert in_words_of(one, "issuer away", now_unix_s=NOW) != words


def test_no_token_is_in_any_words() -> None:
    everything = (COOLING, DEAD, ASIDE, PAUSED, FREE, TRIED, REFUSED)
    for one in everything:
        for told in (str(refusal((one,), {})), repr(refusal((one,), AWAY)), repr(one)):
            assert one.account.credentials.access_token not in told
            assert (one.account.credentials.refresh_token or "") not in told


@pytest.mark.parametrize(
    ("plans", "expected"),
    [(frozenset(), ModelNotOfferedError), (None, AllLimitedError)],
    ids=["in no catalogue", "not known"],
)
def test_of_a_model_in_no_catalogue_one_accounts_word_is_enough(
    plans: frozenset[str] | None, expected: type[AccountError]
) -> None:
    error = refusal((COOLING, TAUGHT), {}, plans=plans)
    assert type(error) is expected
    assert ("the backend's catalogue does not have it" in str(error)) is (plans is not None)
