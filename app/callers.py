"""Who asks: what the key of a request allows, and whose things it sees."""

from dataclasses import dataclass

from app.store.records import ApiKey
from app.store.scopes import NOBODY, Scope

CALLER = "thaw.caller"  # where a request's ASGI scope has its caller


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request. `key` is the key's id; None where no keys are demanded.

    `expires_at` is when the key ends by itself, in Unix seconds.
    """

    scope: Scope
    owner: str
    key: str | None = None
    expires_at: float | None = None

    @property
    def sees_all(self) -> bool:
        """Whether everybody's things are there for this one, without a quota."""
        return self.scope is Scope.ADMIN

    @property
    def only(self) -> str | None:
        """Whose things a list is to have; None for everybody's."""
        return None if self.sees_all else self.owner

    def sees(self, owner: str) -> bool:
        """Whether the things of this owner are there for this one."""
        return self.sees_all or owner == self.owner


# While there are no keys, whoever reaches the server is at the machine itself.
OPERATOR = Caller(Scope.ADMIN, NOBODY)


def caller_of(key: ApiKey) -> Caller:
    """Who has sent a request with this key."""
    return Caller(key.scope, key.owner, key.id, key.expires_at)
