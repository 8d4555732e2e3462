"""Has the allocator keep some of what is freed (glibc), before TensorFlow is imported: later it hardly helps.

By default the last block of memory of a thread goes back to the system as soon as it is free. A training of a small network
then asks for the same pages at every step, and the system fills each with zeros.
"""

import contextlib
import ctypes
import os

M_TOP_PAD = -2  # glibc's number for it
PAD = 8 * 2**20  # bytes that are kept for each thread that allocates

if "MALLOC_TOP_PAD_" not in os.environ:  # else the user has decided
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_TOP_PAD, PAD)
