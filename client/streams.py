"""Server-sent events: from lines to messages (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """One message of a stream; `id` is what `Last-Event-ID` goes on from."""

    id: str
    event: str
    data: str


def lines(chunks: Iterable[str]) -> Iterator[str]:
    """Splits text at line feeds and nowhere else.

    httpx's own `iter_lines` also splits at characters such as U+2028, which JSON may hold as they are.
    An unfinished last line is dropped, as the standard wants it.
    """
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split("\n")
        for line in whole:
            yield line.removesuffix("\r")


def messages(stream: Iterable[str]) -> Iterator[Message]:
    """Reads messages from a stream's lines; comments, which keep connections open, are left out."""
    last_id, event, data = "", "message", list[str]()
    for line in stream:
        if not line:
            if data:
                yield Message(last_id, event, "\n".join(data))
            event, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            last_id = value
        elif field == "event":
            event = value
        elif field == "data":
            data.append(value)
