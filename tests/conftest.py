import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run on the CPU; it is read as they are imported

import torch

# Tiny models gain nothing from threads, and several workers with threads of their own stall each other.
torch.set_num_threads(1)
