"""Labbook: five deep-learning course assignments as one reproducible pipeline."""

import atexit
import gc
import os

# torch and its libraries read these when they are loaded; every import of this package runs this file first.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # idle threads yield sooner: 3 to 30 times faster when cores are shared
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # the same for NumPy's threads: 3 to 4 times faster

# torch creates hundreds of thousands of permanent objects; scanning them for garbage took a fifth of its import time.
gc.set_threshold(100_000)
atexit.register(gc.freeze)  # otherwise Python scans them again at exit, which takes half a second
