"""A few requests as hypothesis draws them."""

from hypothesis import strategies as st

from spinbench.workload.request import Request

BLOCK_SIZE = 4


def drawn_trace(data: st.DataObject) -> tuple[list[Request], int]:
    """Up to seven, some of them at the same time; and KV blocks, of `BLOCK_SIZE` tokens, that hold any one of them."""
    count = data.draw(st.integers(1, 7))
    lengths = [data.draw(st.integers(1, 25)) for _ in range(count)]
    gaps_s = [data.draw(st.sampled_from([0.0, 0.7])) for _ in range(count)]
    trace = [
        Request(
            f"r{index}", sum(gaps_s[:index]), length, ignore_eos=True, seed=index,
            prompt_len_tokens=data.draw(st.integers(1, 40)),
        )
        for index, length in enumerate(lengths)
    ]  # fmt: skip
    largest = max(-(-((request.prompt_len_tokens or 0) + request.max_new_tokens) // BLOCK_SIZE) for request in trace)
    return trace, largest + data.draw(st.integers(0, 12))
