"""Each request for itself, every round anew, by what can be known before the round."""

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext
from spinbench.control.drafting.draft_source import NO_SOURCE
from spinbench.control.selector.by_outlook import OutlookSelector
from spinbench.control.selector.look_ahead import Outlook
from spinbench.control.selector.own_gain import own_gain


class ContextualSelector(OutlookSelector):
    """A contextual bandit: per request the drafter (and K, under drafting=by_selector) of highest expected gain.

    The context is the order of the prompt-lookup match, how well copies have done lately, the newest token, the
    category and what the request's own drafts came to (`SurvivalEstimate`). A copy is scored at every round, whoever
    drafted: full information, for nothing. The gain is tokens expected, less what time is worth: that of a round in
    which all requests do likewise, shared equally; what others really choose is `joint`'s concern. Under a draft-length
    policy its largest K is taken for the K to come.
    """

    name = "contextual"

    def _best(self, context: RoundContext, outlook: Outlook) -> tuple[IntArray, IntArray]:
        gain = own_gain(outlook)
        count, _, most = gain.shape
        first = 0 if self._chooses_length else most - 1
        flat = gain[:, :, first:].reshape(count, -1)
        best = flat.argmax(1)
        source, length = np.divmod(best, most - first)
        drafts = flat[np.arange(count), best] > 0
        return np.where(drafts, source, NO_SOURCE), np.where(drafts, first + length + 1, 0)
