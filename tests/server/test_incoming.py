"""A decoded request, before a route takes it up."""

from __future__ import annotations

from codexrelay.server.incoming import Incoming


def test_its_repr_shows_nothing_that_a_client_said() -> None:
    incoming = Incoming(
        id="req_1", headers={"authorization": "Bearer s3cret"}, body={"input": "s3cret"}
    )
    assert repr(incoming) == "Incoming(id='req_1')"
