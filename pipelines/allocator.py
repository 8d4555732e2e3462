"""Has the allocator keep some of what is freed (glibc), before TensorFlow is imported: later it hardly helps.

By default the last block of memory of a thread goes back to the system as soon as it is free. A training of a small network
then asks for the same pages at every step, and the system fills each with zeros.
"""

import contextlib
import ctypes
import os

MIB = 2**20
# glibc's numbers for them; one that is set ends its adapting the others, which are what it would come to
KEPT = {
    -2: 8 * MIB,  # M_TOP_PAD: bytes that are kept for each thread that allocates
    -3: 32 * MIB,  # M_MMAP_THRESHOLD: larger blocks are the system's own
    -1: 64 * MIB,  # M_TRIM_THRESHOLD: what is free at the end beyond this goes back
}

if not any(name.startswith("MALLOC_") for name in os.environ) and "malloc" not in os.environ.get("GLIBC_TUNABLES", ""):
    with contextlib.suppress(OSError, AttributeError):  # another C library; else the user has not decided
        for parameter, size in KEPT.items():
            ctypes.CDLL(None).mallopt(parameter, size)
