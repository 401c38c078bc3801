"""Faults as an attempt returns them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.protocol.openai_errors import error_object

if TYPE_CHECKING:
    from collections.abc import Mapping


def a_fault(
    kind: FaultKind,
    *,
    code: str | None = None,
    status: int = 400,
    message: str = "words",
    resets_at_unix_s: float | None = None,
    retry_after_s: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Fault:
    """Return a fault of the kind, with words that are none of the backend's."""
    return Fault(
        kind=kind,
        status=status,
        error=error_object(message, type="some_type", code=code),
        resets_at_unix_s=resets_at_unix_s,
        retry_after_s=retry_after_s,
        headers=headers or {},
    )
