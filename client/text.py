"""Text that came over the wire, made safe to print."""

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def one_line(text: str) -> str:
    """Joins the lines of `text` and replaces what would steer a terminal.

    Names and messages come from other users of the server: an escape sequence in one could rewrite the
    reader's screen.
    """
    joined = " ".join(text.split())
    return "".join(char if char.isprintable() else UNKNOWN for char in joined)
