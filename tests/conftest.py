import torch

# Tiny models gain nothing from threads, and several workers with threads of their own stall each other.
torch.set_num_threads(1)
