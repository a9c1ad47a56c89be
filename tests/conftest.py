"""For all tests: helpers of this folder can be imported, and tiny tensors are computed in one thread."""

import os

# Before torch is imported; its threads would spend their time waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
