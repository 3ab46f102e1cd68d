"""How many micro-batches are in flight: a number, or one that is found while serving."""

from typing import Protocol


class DepthControl(Protocol):
    """Says how deep the pipeline is and learns from what came of it."""

    @property
    def depth(self) -> int:
        """Micro-batches in flight at the most, >= 1."""
        ...

    def observe(self, end_s: float, num_requests: int, num_running: int, gain: int) -> None:
        """A micro-batch of `num_requests` was verified at `end_s`; up to then `num_running` requests were running.

        `gain` is what depths are to be compared by.
        """
        ...


class FixedDepth:
    """Always the same."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def observe(self, end_s: float, num_requests: int, num_running: int, gain: int) -> None:
        """Nothing to learn."""


class AdaptiveDepth:
    """Raised while throughput rises (SPIN, arXiv 2503.15921; the rule itself is open there and ours).

    Throughput is rounds per second that a running request gets, times what a round gains. The first are (request,
    round) pairs over the integral of running requests over time, so that an empty queue is not mistaken for a slow
    pipeline. The second is 1 where draft lengths do not depend on the depth: then depths rank as they do by tokens,
    without the noise of acceptance. Else it is tokens, of all trials at that depth, older ones counting less. All from
    the times of events, so both engines come to the same depths.

    A *trial* is `passes_per_trial` rounds of each running request at one depth, after one pass in which the pipeline
    settles. Climbing starts at 1 and goes on until `PATIENCE` depths in a row were no better than the best one, or
    each request has a micro-batch of its own. Then the best depth is held; after `trials_per_probe` trials a neighbour,
    the one above and the one below in turn, gets a trial, and is moved to if it is better now. Each probe in vain
    doubles the time to the next, up to `MAX_PATIENCE_TO_PROBE` times.
    """

    PATIENCE = 2
    MAX_PATIENCE_TO_PROBE = 8
    MEMORY = 0.8
    """Weight of what rounds gained in earlier trials at a depth, with each further one."""

    def __init__(self, max_depth: int, passes_per_trial: int, trials_per_probe: int) -> None:
        self.depth = 1
        self._max_depth = max_depth
        self._passes_per_trial = passes_per_trial
        self._trials_per_probe = trials_per_probe
        self._rates: dict[int, float] = {}
        """Rounds per second and request of the last trial at each depth, times what a round gains there."""
        self._gains: dict[int, tuple[float, float]] = {}
        """By depth, decayed sums of gains and of the (request, round) pairs that brought them."""
        self._climbing = True
        self._num_trials_held = 0
        self._num_probes_in_vain = 0
        self._held = 1
        """The depth that was the best one when it was last asked for."""
        self._probe_up = False
        self._last_end_s: float | None = None
        self._begin_trial()

    def observe(self, end_s: float, num_requests: int, num_running: int, gain: int) -> None:
        """Count towards the trial; at its end choose the next depth."""
        settled = self._num_pairs >= num_running
        if settled and self._last_end_s is not None:
            self._running_s += num_running * (end_s - self._last_end_s)
            self._num_counted += num_requests
            self._gain += gain
        self._num_pairs += num_requests
        self._last_end_s = end_s
        if self._num_counted >= self._passes_per_trial * num_running and self._running_s > 0:
            earlier_gain, earlier_pairs = self._gains.get(self.depth, (0.0, 0.0))
            gains = self.MEMORY * earlier_gain + self._gain
            pairs = self.MEMORY * earlier_pairs + self._num_counted
            self._gains[self.depth] = gains, pairs
            self._rates[self.depth] = self._num_counted / self._running_s * (gains / pairs)
            self.depth = self._next_depth(min(self._max_depth, num_running))
            self._begin_trial()

    def _begin_trial(self) -> None:
        self._num_pairs = 0
        self._num_counted = 0
        self._gain = 0
        self._running_s = 0.0

    def _next_depth(self, most: int) -> int:
        best = max(self._rates, key=lambda depth: (self._rates[depth], -depth))
        if self._climbing:
            if self.depth < most and self.depth - best < self.PATIENCE:
                return self.depth + 1
            self._climbing = False
        if best != self._held:
            self._held, self._num_probes_in_vain = best, 0
        elif self.depth != best:
            self._num_probes_in_vain += 1
        if self.depth != best:  # a probe is over, or the climb
            self._num_trials_held = 0
            return best
        self._num_trials_held += 1
        longer = min(2**self._num_probes_in_vain, self.MAX_PATIENCE_TO_PROBE)
        if self._num_trials_held < self._trials_per_probe * longer:
            return best
        self._num_trials_held = 0
        self._probe_up = not self._probe_up
        neighbour = best + 1 if self._probe_up else best - 1
        return neighbour if 1 <= neighbour <= most else best
