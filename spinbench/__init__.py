"""spinbench: speculative decoding with several heterogeneous drafters (SPIN), run for real and measured."""
