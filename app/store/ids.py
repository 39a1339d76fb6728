import secrets


def new_id(kind: str) -> str:
    """Return a new random id: the kind, an underscore, and 24 lowercase hexadecimal digits (96 bits)."""
    return f"{kind}_{secrets.token_hex(12)}"
