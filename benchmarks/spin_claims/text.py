"""What the report on SPIN's claims says, with names of figures in braces."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One row of the table of claims."""

    key: str
    """In measured.csv."""
    text: str
    paper: str
    simulated: str


CLAIMS = (
    Claim("overall", "all of SPIN over homogeneous, mix", "about 2.28x", "{pipeline_mix} ({pipeline_mix_own})"),
    Claim("overall_alpaca", "the same, Alpaca", "2.34x", "{pipeline_alpaca} ({pipeline_alpaca_own})"),
    Claim("step_selection", "CP: selection", "1.45x", "{selection_cp} ({selection_cp_own})"),
    Claim("step_decomposition", "CP: + decomposition", "1.81x", "{decomposition_cp} ({decomposition_cp_own})"),
    Claim("step_pipeline", "CP: + pipeline", "1.99x", "{pipeline_cp} ({pipeline_cp_own})"),
    Claim(
        "overall_per_gpu", "all of SPIN over homogeneous per GPU, mix", "not given",
        "{pipeline_mix_per_gpu} ({pipeline_mix_per_gpu_own})",
    ),
    Claim(
        "selection_over_fixed", "selection against fixed 68M, tokens/s", "32.21 -> 62.33 (1.94x)",
        "CP: {fixed_cp} -> {spin_cp} ({own_cp}); Alpaca: {fixed_alpaca} -> {spin_alpaca} ({own_alpaca})",
    ),
    Claim(
        "selection_over_simple", "selection against greedy and epsilon-greedy", "43.78 -> 65.31 tokens/s (1.49x)",
        "CP: {simple_cp} -> {spin_cp}, {over_simple_cp} ({own_cp}, {own_over_simple_cp})",
    ),
    Claim("verify_padded_16", "Alpaca, batch 16: padded verification", "529.21 ms", "{verify_padded_16} (matched)"),
    Claim(
        "verify_decomposed_16", "the same, decomposed", "335.46 ms",
        "{verify_decomposed_32_16}; packed {verify_packed_16}",
    ),
    Claim(
        "memory_32", "batch 32 runs where padding is out of memory", "yes",
        "in float32: padded needs {memory_padded_32_full} of 32, unpadded {memory_packed_32_full}; "
        "half precision: {memory_padded_32_half}",
    ),
    Claim("pipeline_gain", "pipeline with 4 micro-batches over serial", "about 1.29x",
          "Alpaca {gain_at_4_alpaca}, CP {gain_at_4_cp}; at the best depth {best_gain_alpaca}, {best_gain_cp}"),
    Claim("pipeline_best", "best number of micro-batches", "about 5 (Alpaca), 3 (CP); 9 is worse",
          "{best_depth_alpaca}, {best_depth_cp}; at 9 {gain_at_9_alpaca}, {gain_at_9_cp}"),
    Claim("best_265m_alpaca", "265M is the best drafter, Alpaca", "3 %",
          "{share_draft_goodput_alpaca} (put in); by speed {share_speed_alpaca}"),
    Claim("best_265m_cp", "265M is the best drafter, CP", "40 %",
          "{share_draft_goodput_cp} (put in); by speed {share_speed_cp}"),
    Claim(
        "padding_loss", "padding costs of the speculative gain", "about 30 %",
        "Alpaca {padding_loss_alpaca}, CP {padding_loss_cp}; of the throughput {padding_speed_alpaca}, "
        "{padding_speed_cp}",
    ),
)  # fmt: skip

BARS = (
    "Pipeline >= 1.15x over serial: **{bar_alpaca}** on Alpaca-like ({best_gain_alpaca} at its best depth) and "
    "**{bar_cp}** on CP-like requests ({best_gain_cp}) on the engine that is matched to the paper's verification; "
    "with round goodput {best_gain_alpaca_own} and {best_gain_cp_own}. On the datasheet's float32 it is "
    "{best_gain_alpaca_float32} ({bar_alpaca_float32}) and {best_gain_cp_float32} ({bar_cp_float32}): there a "
    "verification costs its arithmetic, so half a batch costs half.",
    "The controller's depth within one of the best fixed depth: **{near_alpaca}** (it is mostly at "
    "{adaptive_depth_alpaca}, best is {best_depth_alpaca}) and **{near_cp}** on CP-like requests "
    "({adaptive_depth_cp}, {best_depth_cp}); with round goodput {adaptive_depth_alpaca_own} "
    "({best_depth_alpaca_own}) and {adaptive_depth_cp_own} ({best_depth_cp_own}), on the "
    "datasheet's float32 {adaptive_depth_alpaca_float32} ({best_depth_alpaca_float32}) and "
    "{adaptive_depth_cp_float32} ({best_depth_cp_float32}). Learning it costs: {adaptive_gain_alpaca} and "
    "{adaptive_gain_cp} over serial.",
    "The whole, 2.28x in the paper: {pipeline_mix} on the mix with the paper's reward, {pipeline_mix_own} with round "
    "goodput; Alpaca-like {pipeline_alpaca} (paper 2.34x), CP-like {pipeline_cp} (1.99x).",
)

FRAME = """# SPIN's claims

Simulated on the reconstruction of the paper's set-up, SPIN serves **{pipeline_mix}** the tokens of homogeneous padded
speculative decoding on the mix of requests (paper: about 2.28x). It uses {gpus_pipeline} GPUs where the baseline uses
{gpus_homogeneous}: **per GPU it is {pipeline_mix_per_gpu}**. Nothing in this column is measured: times are a roofline's
with one figure matched, acceptance and lengths are made up. That the sum comes near the paper's is no evidence by
itself; how each step comes about, and what moves it, is below.

```sh
python -m benchmarks.spin_claims
```

Where a cell has two figures, the first is SPIN as the notes on the paper have it (reward: accepted tokens / drafting
time, at most 2 requests a drafter), the one in brackets is with the reward that counts the whole round and no limit of
places.

{claims}

The last column's figures come from `measured.csv` (columns claim = key, value, command); - = not measured yet.

Measured are other models, requests and devices than the paper's: SmolLM2-135M with six drafters, among them copies and
an n-gram table, in float32 on two CPU cores, 16 requests of `traces/mixed.jsonl` at batch 8, K = 4; each step over the
homogeneous baseline (the smallest network, padded) of the same repeat, median of four repeats with the extremes. The
pipeline loses: the target's and the drafters' lanes share these two cores, so that it takes half of them from the
target. Decomposition changes nothing that can be told from the noise, with contexts of at most a few hundred tokens.
Plain decoding serves 1.21x of that baseline there (1.11..1.30), more than any of these steps, and `joint` 1.04x of
plain decoding (0.86..1.15; [each run](../benchmarks/staircase.csv), which the commands in `measured.csv` made).

## What was to be shown

{bars}

## The set-up

- LLaMA-7B on one V100, five drafters of 68M to 1.4B on a V100 each, batch 8, K = 8, all requests at once, 256
  requests. Homogeneous: 68M alone, padded, serial. [conf/experiment](../../conf/experiment) has one file per claim.
- Half precision: LLaMA-30B in float32 is 130 GB and four V100s have 128. The claim about memory speaks for float32,
  though: in half precision even a padded cache of 32 such requests leaves room.
- **Matched: one figure of time.** A padded verification of 16 Alpaca requests took 529.21 ms in the paper, a
  decomposed one 335.46. On a datasheet's V100 these take {verify_padded_bfloat16} and {verify_packed_bfloat16} in half
  precision, {verify_padded_float32} and {verify_packed_float32} in float32 (packed, so without any padding): attention
  is a few percent of a verification, and no layout can save the 37 % that decomposing did. Slower linear layers would
  make 529 ms, but leave nothing to save either. Slow *attention* gives both. So `device=v100_32gb_spin` has the
  attention of every model at 0.0046 of the datasheet's rate: scores, masks and copies of a padded cache in PyTorch, two
  orders of magnitude from a fused kernel. It is a guess at a cause; what is known is the time.
- Checks of that figure which nothing was tuned for: decomposed {verify_decomposed_32_16} (paper 335.46), fixed 68M on
  CP {fixed_cp} tokens/s (32.21; on which requests the paper does not say, on Alpaca-like ones it is {fixed_alpaca}).
- Matched: the shares of requests for which 265M is best, by its draft goodput, as weights of a class of requests in
  `traces/llama_drafters_*_like.yaml`. Made up: all rates and lengths. **The gain of selection is therefore an input,
  not a finding**; what selectors make of it is a finding.

## The steps

![Throughput over homogeneous speculative decoding by step](staircase.png)

{workloads}

Three draws of acceptance; in brackets the range. On this engine plain decoding serves {plain_padded_mix} tokens/s of
the mix padded and {plain_packed_mix} unpadded, where the homogeneous baseline serves {fixed_mix}: **against plain
decoding without padding the paper's baseline is no gain worth having**. The best fixed drafter, which the paper's
baseline does not use, serves {best_fixed_mix} padded, and with decomposition and pipeline {best_fixed_all_alpaca},
{best_fixed_all_cp} and {best_fixed_all_mix} (Alpaca-like, CP-like, mix), on 2 GPUs: under these laws of acceptance, who
knew it beforehand would need no selector.

### Selection

![Share of requests by best drafter](drafters.png)

Tokens/s, padded, serial; best in bold:

{selectors}

By draft goodput 68M is the best for twice as many requests as by the speed that they really have: by that 1.1B is, for
most, because here verification takes most of a round. SPIN with the paper's reward
gains from its places: with two requests a drafter, six of eight must take larger ones. Round goodput needs none.
Our `joint` and `contextual` (K chosen too, at most 8) end next to the best fixed drafter, which they had to find.

### Decomposition

![Verification time by batch and layout](decomposition.png)

{layouts}

*decomposed* is with the width searched under our rule that pieces never take more memory than padding would; at such
short contexts copies of nine query rows forbid nearly every cut. *decomposed 32* has pieces of 32 tokens. *grouped* and
*packed* need no copies: a kernel that takes ragged batches saves more than decomposing.

Memory for 32 Alpaca-like requests with a rectangular cache of all layers beside the weights: float32
{memory_padded_32_full} padded and {memory_packed_32_full} ragged (16: {memory_padded_16_full}, {memory_packed_16_full};
64: {memory_padded_64_full}, {memory_packed_64_full}), half precision {memory_padded_32_half} and
{memory_packed_32_half}. A V100 has 32 (or 16). Ours has a paged cache and lays out one layer at a time, so that padding
is never refused here; the figures say where the paper's would have been.

### Pipeline

![Throughput by micro-batches](pipeline.png)

Throughput over serial:

{depths}

A pipeline hides drafting: it gains at most (drafting + verification) / verification, and each micro-batch pays again
for what a verification costs however small it is: one request takes {verify_decomposed_32_1}, eight take
{verify_decomposed_32_8} (decomposed). More micro-batches pay where a small verification costs its share only, or
drafting takes longer than here. In float32 on the datasheet's V100 (last two columns) a pipeline pays most, and
speculation little: plain decoding serves {plain_mix_float32} tokens/s of the mix and all of SPIN {spin_mix_float32}.

### Scale

Alpaca-like, 1, 2 and 4 V100s for the target, tokens/s (over homogeneous), SPIN as published:

{scale}

The laws of acceptance are the same for all three, though larger targets are harder to draft for.

## Why ours differs

- *Selection.* It depends on rates that nobody published; see above. With the paper's reward we get {selection_cp} on
  CP (paper 1.45x) and {selection_alpaca} on Alpaca-like requests.
- *Decomposition.* {decomposition_cp} over homogeneous with selection on CP (paper 1.81x): its gain is the padding of
  made-up lengths, on an attention that is all of the time. The paper's CP may be less ragged.
- *Pipeline.* {pipeline_cp} (paper 1.99x), best at {best_depth_cp} micro-batches (3). The paper's drafting must take a
  larger share of a round than ours, or its verifications cost less when small.
- *KV ahead.* Preparing it gains little here, since a catch-up is a small part of a round: {on_demand} on demand.
- *Padding.* "Of the speculative gain" is ours to define: what padded batches lose of fixed 68M's gain over plain
  decoding, both without padding. It is most of a gain that is small.
- *The engine.* On the datasheet's V100 the paper's claims do not hold together: in half precision SPIN serves
  {spin_mix_bfloat16} tokens/s of the mix and plain decoding {plain_mix_bfloat16}, decomposing has nothing to save, and
  each further micro-batch costs the weights again.

## What the open parameters move

![Range of the overall ratio by open parameter](open_parameters.png)

One at a time, the others at their defaults (K 8, 4 rounds a slot, 8 slots an epoch, 1 of them exploring, 2
requests a drafter, an estimate for each request that starts at 4 rounds of everybody's, KV prepared ahead, pieces of
32, adaptive number of micro-batches), mix of requests, mean of three draws. *{open_first}* moves the ratio most:
those of a datasheet in place of the paper's one matched figure. For these and for K the baseline has the same value.

{open}

All runs: [runs.csv](runs.csv).
"""
