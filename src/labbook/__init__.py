"""Labbook: five deep-learning courseworks as one reproducible pipeline."""

import atexit
import gc
import os

# torch and its libraries read these when they are loaded; every import of this package runs this file first.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # idle threads yield sooner: 3 to 30 times faster beside other work
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # the same for NumPy's threads: 3 to 4 times faster

# torch creates hundreds of thousands of permanent objects; collecting garbage among them took a fifth of its import.
gc.set_threshold(100_000)
atexit.register(gc.freeze)  # else Python examines them once more at exit, for half a second
