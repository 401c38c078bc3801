"""For clients that speak plain HTTP to this machine alone."""

from __future__ import annotations

import ssl
from typing import Final

#: Trusts nobody. The usual certificates take tens of milliseconds to read, for each client.
NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
