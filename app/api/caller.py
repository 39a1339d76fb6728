"""Who asks."""

from fastapi import APIRouter
from app.api.state import Who

router = APIRouter(prefix="/v1/caller")


@router.get("")
def caller(who: Who) -> dict:
    return {
        "object": "caller",
        "scope": who.scope,
        "owner": who.owner or None,
        "key": who.key,
        "expires_at": None,
    }
