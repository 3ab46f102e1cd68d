"""spinbench: speculative decoding with several heterogeneous drafters, run for real and simulated, under one set of decisions."""
