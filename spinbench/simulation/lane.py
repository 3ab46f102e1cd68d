"""A device that does one job at a time, in the order they come."""

from simpy import Environment, Event


class Lane:
    """A server with a queue, on SimPy's clock."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._free_at_s = 0.0

    def submit(self, duration_s: float, not_before_s: float) -> tuple[float, Event]:
        """Queue a job of `duration_s` seconds; returns when it starts, and the event of its end."""
        now_s = self._environment.now
        start_s = max(now_s, self._free_at_s, not_before_s)
        self._free_at_s = start_s + duration_s
        return start_s, self._environment.timeout(self._free_at_s - now_s)

    def repeat(self, end_s: float) -> Event:
        """The event of the end of a job that is known to have ended at `end_s`."""
        self._free_at_s = end_s
        return self._environment.timeout(max(0.0, end_s - self._environment.now))
