"""The simulated model catalogue: the slugs of Codex CLI 0.169 and those that older clients ask for.

Source: wire notes 5 (bundled catalogue of 0.169, allow-lists of mid-2026). Only the facts are real;
every text is ours, and so is which plans have the newer models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from codexrelay.protocol.raw import dump

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

#: Slug -> the plans that have the model.
Plans: TypeAlias = Mapping[str, tuple[str, ...]]

_FOUR: Final = ("low", "medium", "high", "xhigh")
_FIVE: Final = (*_FOUR, "max")
_SIX: Final = (*_FIVE, "ultra")
#: `available_in_plans` of gpt-5.5 on the wire.
_ALL_PLANS: Final = (
    *("business", "edu", "edu_plus", "edu_pro", "education", "enterprise"),
    *("enterprise_cbp_automation", "enterprise_cbp_usage_based", "finserv", "free"),
    *("free_workspace", "go", "hc", "k12", "plus", "pro", "prolite", "quorum", "sci"),
    *("self_serve_business_prolite", "self_serve_business_usage_based", "team"),
)
_PAID_PLANS: Final = tuple(plan for plan in _ALL_PLANS if not plan.startswith("free"))


@attrs.frozen
class Model:
    """One row of the catalogue."""

    slug: str
    efforts: tuple[str, ...]
    default_effort: str
    #: Order in a client's list, lowest first.
    priority: int
    context_window: int = 272_000
    max_context_window: int = 872_000
    #: Tools ride in an `additional_tools` item and there are no `instructions`.
    lite: bool = True
    hidden: bool = False
    #: Clients older than this are not told about the model.
    minimal_client_version: str | None = None


MODELS: Final = (
    Model("gpt-6.1-sol", _SIX, "low", 1),
    Model("gpt-6-astra", _SIX, "low", 2),
    Model("gpt-6-sol", _SIX, "medium", 3),
    Model("gpt-6-luna", _FIVE, "medium", 4),
    Model("gpt-5.6-sol", _SIX, "low", 5),
    Model("gpt-6.1-terra", _SIX, "low", 7, context_window=500_000),
    Model("gpt-5.6-terra", _SIX, "medium", 8),
    Model("gpt-5.6-luna", _FIVE, "medium", 9),
    Model("gpt-daybreak-blue-latest", _SIX, "low", 11, hidden=True),
    Model("gpt-daybreak-red-latest", _SIX, "medium", 12, 372_000, 372_000, hidden=True),
    Model(
        "gpt-5.5",
        _FOUR,
        "medium",
        13,
        max_context_window=272_000,
        lite=False,
        minimal_client_version="0.124.0",
    ),
    Model("gpt-5.4", _FOUR, "medium", 14, max_context_window=272_000, lite=False),
    Model("gpt-5.4-mini", _FOUR, "medium", 15, max_context_window=272_000, lite=False),
    Model("gpt-5.3-codex", _FOUR, "medium", 16, max_context_window=272_000, lite=False),
    Model("gpt-5.3-codex-spark", _FOUR, "high", 17, 128_000, 128_000, lite=False),
    Model("gpt-5.2", _FOUR, "medium", 18, max_context_window=272_000, lite=False),
    Model("codex-auto-review", _FIVE, "medium", 43, hidden=True),
)
SLUGS: Final = frozenset(model.slug for model in MODELS)
#: The lite models are not for free plans here, so that a mixed pool has something to choose.
PLANS: Final[Plans] = {model.slug: _PAID_PLANS if model.lite else _ALL_PLANS for model in MODELS}


def plans_with(changed: Mapping[str, Iterable[str]]) -> Plans:
    """Return `PLANS` with other plans for some models.

    Raises:
        ValueError: a model is not in the catalogue.
    """
    if unknown := set(changed) - SLUGS:
        raise ValueError(f"no model is called {min(unknown)!r}")
    return {**PLANS, **{slug: tuple(plans) for slug, plans in changed.items()}}


def catalogue(client_version: str | None, plans: Plans) -> JsonObject:
    """Return the body of `GET …/models` for a client of this version; None is told everything."""
    asked = _version(client_version) if client_version else None
    return {
        "models": [
            _entry(model, plans[model.slug])
            for model in MODELS
            if asked is None
            or model.minimal_client_version is None
            or asked >= _version(model.minimal_client_version)
        ]
    }


def etag(body: JsonObject) -> str:
    """Return the entity tag of a catalogue, in the backend's weak form."""
    return f'W/"{hashlib.sha256(dump(body)).hexdigest()[:32]}"'


def unsupported(slug: Json) -> JsonObject:
    """Return the body of the 400 for a model that is not for ChatGPT accounts."""
    return {
        "detail": f"The '{slug}' model is not supported when using Codex with a ChatGPT account."
    }


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("-")[0].split(".") if part.isdigit())


def _entry(model: Model, plans: tuple[str, ...]) -> JsonObject:
    efforts: list[Json] = [
        {"effort": effort, "description": f"Think with {effort} effort"} for effort in model.efforts
    ]
    return {
        "slug": model.slug,
        "display_name": "-".join(
            part.upper() if part == "gpt" else part.title() for part in model.slug.split("-")
        ),
        "description": f"{model.slug}, simulated",
        "default_reasoning_level": model.default_effort,
        "supported_reasoning_levels": efforts,
        "shell_type": "unified_exec" if model.lite else "shell_command",
        "visibility": "hide" if model.hidden else "list",
        "supported_in_api": True,
        "priority": model.priority,
        "minimal_client_version": model.minimal_client_version,
        "available_in_plans": list(plans),
        "additional_speed_tiers": ["fast"],
        "service_tiers": [{"id": "priority", "name": "Fast", "description": "Sooner"}],
        "default_service_tier": None,
        "availability_nux": None,
        "upgrade": None,
        "model_messages": None,
        "base_instructions": "You are a coding agent.",
        "include_skills_usage_instructions": not model.lite,
        "include_plugin_usage_instructions": not model.lite,
        "include_apps_usage_instructions": not model.lite,
        "supports_reasoning_summaries": True,
        "supports_reasoning_summary_parameter": True,
        "default_reasoning_summary": "none",
        "support_verbosity": True,
        "default_verbosity": "low",
        "apply_patch_tool_type": "freeform",
        "web_search_tool_type": "text_and_image",
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "supports_parallel_tool_calls": not model.lite,
        "supports_image_detail_original": True,
        "context_window": model.context_window,
        "max_context_window": model.max_context_window,
        "auto_compact_token_limit": None,
        "comp_hash": "3000",
        "effective_context_window_percent": 95,
        "experimental_supported_tools": [],
        "input_modalities": ["text", "image"],
        "supports_search_tool": True,
        "supports_experimental_context": False,
        "use_responses_lite": model.lite,
        "supports_reasoning_effort_updates": model.lite,
        "node_repl_auto_review_required": False,
        "node_repl_disabled": False,
        "tool_mode": "code_mode_only" if model.lite else None,
        "multi_agent_version": "v2" if model.lite else None,
        "auto_review_model_override": None,
        "model_specialty": None,
    }
