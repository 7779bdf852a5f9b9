"""Labbook: five deep-learning courseworks as one reproducible pipeline."""

import atexit
import gc
import os

# These are read when torch and its libraries load, so they stand where every import of ours passes first.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # threads that wait long let others run: 3 to 30 times faster beside other work
os.environ.setdefault(
    "OPENBLAS_THREAD_TIMEOUT", "4"
)  # NumPy's threads as well: else they spin beside torch's, 3 to 4 times slower

# Importing torch makes hundreds of thousands of objects that stay: looking among them for garbage took a fifth of the import.
gc.set_threshold(100_000)
atexit.register(gc.freeze)  # and Python would look among them once more at its end: half a second of each process
