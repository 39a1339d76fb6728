"""A run that is asked to stop saves what it has done of the epoch, and ends."""


class Stopped(Exception):
    """The run has saved all that it had done, as somebody asked for its end."""


class Stopping:
    """Asks a run for its end, from another thread or from a signal handler."""

    def __init__(self) -> None:
        self.asked = False
        self.saves = False  # whether the run is within an epoch; elsewhere nothing would be lost

    def ask(self) -> bool:
        """Asks; says whether the run will save and end by itself, after its step at the latest."""
        self.asked = True
        return self.saves

    def check(self) -> None:
        """Ends the run, if that was asked for.

        Raises:
            Stopped: it was.
        """
        if self.asked:
            raise Stopped
