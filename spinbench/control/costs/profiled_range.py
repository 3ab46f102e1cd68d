"""What a cost model was asked for beyond what was profiled."""

from spinbench.control.costs.model_cost import ModelCost


class BeyondProfile:
    """Remembers one line for each model, operation and limit."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], str] = {}

    @property
    def lines(self) -> tuple[str, ...]:
        """In the order in which limits were passed."""
        return tuple(self._lines.values())

    def note_rows(self, model: ModelCost, num_rows: int, num_head_rows: int) -> None:
        """A pass of so many rows, of which so many have logits."""
        if num_rows > model.forward.max_count:
            self._add(model, "forward pass", "rows", num_rows, model.forward.max_count)
        if num_head_rows > model.head.max_count:
            self._add(model, "head", "rows of logits", num_head_rows, model.head.max_count)

    def check_attention(self, model: ModelCost, num_requests: int, longest: int) -> None:
        """A pass of so many requests, of which the longest has so many tokens of context."""
        if longest > model.max_context_tokens:
            self._add(model, "attention", "tokens of context", longest, model.max_context_tokens)
        if num_requests > model.max_num_requests:
            self._add(model, "attention", "requests", num_requests, model.max_num_requests)

    def _add(self, model: ModelCost, operation: str, unit: str, asked: int, profiled: int) -> None:
        key = (model.name, f"{operation} {unit}")
        if key not in self._lines:
            self._lines[key] = (
                f"{operation} of {model.name}: {asked} {unit} were asked for, 1 to {profiled} were profiled; times "
                "beyond are extrapolated"
            )
