"""Prompt lookup: drafts by copying what followed the last occurrence of the newest n-gram of the same request."""

from collections.abc import Iterable

from spinbench.workload.acceptance.agreement import MAX_AGREED, NOTHING_TO_COMPARE


class NgramIndex:
    """The tokens of one request with, per n-gram of 1 to 3 tokens, where it last occurred.

    Costs three dictionary writes per token. The idea is Saxena's prompt lookup decoding (2023); the latest occurrence
    wins, because small models repeat themselves.
    """

    MAX_ORDER = 3

    def __init__(self, token_ids: Iterable[int]) -> None:
        self._token_ids: list[int] = []
        # gram -> position of the token that followed it; a gram enters when its follower is known
        self._follower: dict[tuple[int, ...], int] = {}
        # for each token and order, the position that followed the gram in front of it the time before; -1 = it was new
        self._before: list[tuple[int, ...]] = []
        self.hindsight = bytearray()
        """For each token, what a lookup in front of it would have found: the order of the match in the two lowest bits,
        then a bit for each order from 1, set if the token that followed its latest match was this one."""
        self.extend(token_ids)

    def extend(self, token_ids: Iterable[int]) -> None:
        """Append tokens (prompt first, then each round's emitted tokens)."""
        tokens, follower = self._token_ids, self._follower
        for token in token_ids:
            end, token, found = len(tokens), int(token), 0
            earlier: list[int] = []
            for order in range(1, min(self.MAX_ORDER, end) + 1):
                gram = tuple(tokens[end - order :])
                before = follower.get(gram)
                if before is not None:
                    found = found & ~3 | order | (tokens[before] == token) << order + 1
                follower[gram] = end
                earlier.append(-1 if before is None else before)
            tokens.append(token)
            self._before.append(tuple(earlier))
            self.hindsight.append(found)

    def match_order(self) -> int:
        """Length of the longest suffix (at most 3 tokens) that occurred before; 0 if none did."""
        for order in range(min(self.MAX_ORDER, len(self._token_ids)), 0, -1):
            if tuple(self._token_ids[-order:]) in self._follower:
                return order
        return 0

    def agreed_run(self) -> int:
        """Tokens, at most `MAX_AGREED`, that would be copied alike from the longest match and from the one before it.

        `NOTHING_TO_COMPARE` where it has occurred once or never. Known before anything is drafted.
        """
        order, tokens = self.match_order(), self._token_ids
        if not order:
            return NOTHING_TO_COMPARE
        end = len(tokens)
        latest = self._follower[tuple(tokens[-order:])]
        before = self._before[latest][order - 1]
        if before < 0:
            return NOTHING_TO_COMPARE
        for place in range(MAX_AGREED):
            if tokens[latest + place % (end - latest)] != tokens[before + place % (end - before)]:
                return place
        return MAX_AGREED

    def draft(self, num_tokens: int, max_order: int, min_order: int) -> list[int]:
        """At most `num_tokens` tokens that followed the longest match of `min_order` to `max_order` tokens; maybe none.

        A match near the end runs on into its own draft, so a loop of any period is continued.
        """
        tokens = self._token_ids
        for order in range(min(max_order, len(tokens)), min_order - 1, -1):
            start = self._follower.get(tuple(tokens[-order:]))
            if start is not None:
                period = len(tokens) - start
                return [tokens[start + i % period] for i in range(num_tokens)]
        return []
