"""The example of a caller on the OpenAPI page."""

from typing import Any

from app.api.examples import Responses, in_json

CALLER: dict[str, Any] = {
    "object": "caller",
    "scope": "submit",
    "owner": "zoo",
    "key": "key_3f1c9a0e5b7d2468",
    "expires_at": 1798761600.0,
}

caller: Responses = {200: in_json("Who asks.", CALLER)}
