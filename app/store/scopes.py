from enum import StrEnum

NOBODY = ""  # the owner of what was made without a key, or with one that names no owner


class Scope(StrEnum):
    """What a key allows; each allows what those before it do."""

    READ = "read"  # looks at what is its owner's, downloads it, predicts with it
    SUBMIT = "submit"  # submits jobs and datasets, cancels, deletes
    ADMIN = "admin"  # sees everybody's, has no quota

    def allows(self, needed: "Scope") -> bool:
        """Say whether a key of this scope may do what needs that one."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)
