"""How long the server waits for a request's body."""

import asyncio
import time

from starlette.types import Message, Receive

from app.errors import TimedOut

SLOWEST = 1000  # bytes a second: more slowly nobody sends, but who wants to hold a place


def patient(receive: Receive, seconds: float) -> Receive:
    """A `receive` that gives up a body of which nothing comes for so long, or that comes too slowly.

    Only the time spent waiting for the client counts, not what the server does with what came. Once the body
    is there, it waits as long as `receive` does: for the end of the connection.

    Raises:
        TimedOut: when it is called; the body is given up.
    """
    waited, received, whole = 0.0, 0, False

    async def receive_in_time() -> Message:
        nonlocal waited, received, whole
        if whole:
            return await receive()
        begun = time.monotonic()
        try:
            async with asyncio.timeout(min(seconds, max(0.0, seconds + received / SLOWEST - waited))):
                message = await receive()
        except TimeoutError:
            raise TimedOut(
                f"the body came too slowly: within {seconds:g} seconds, then {SLOWEST:,} bytes a second",
                headers={"Connection": "close"},
            ) from None
        waited += time.monotonic() - begun
        received += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        return message

    return receive_in_time
