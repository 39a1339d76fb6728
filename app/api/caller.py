"""Who asks: what the key of the request allows."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api import caller_examples as examples
from app.api.state import Who
from app.store.scopes import Scope

router = APIRouter(prefix="/v1/caller", tags=["caller"])


class CallerAnswer(BaseModel):
    """What whoever asks may do, and whose things are there for them."""

    object: Literal["caller"] = "caller"
    scope: Scope = Field(description="`admin` where the server demands no keys.")
    owner: str | None = Field(description="Null for a key that names none, and without a key.")
    key: str | None = Field(description="The key's id, which may be shown. Null without a key.")
    expires_at: float | None = Field(description="Unix seconds. Null for a key that does not end by itself.")


@router.get("", response_model=CallerAnswer, responses=examples.caller)
async def get_caller(caller: Who) -> CallerAnswer:
    """What the key of this request allows."""
    return CallerAnswer(
        scope=caller.scope, owner=caller.owner or None, key=caller.key, expires_at=caller.expires_at
    )
