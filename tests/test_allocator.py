"""What is freed and taken again costs no new pages."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource, threading
import pipelines

def faults(blocks):
    import ctypes
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    for _ in range(100):
        kept = [libc.malloc(2**16) for _ in range(blocks)]
        for block in kept:
            ctypes.memset(block, 1, 2**16)
        for block in kept:
            libc.free(block)

before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=faults, args=(100,))
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


ARRAYS = """
import resource
import numpy as np
{first}

x = np.ones(500_000)
for _ in range(50):
    y = x * 2
    del y
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""
glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not platform.libc_ver()[0], reason="the allocator is glibc's"
)


def faults(code, **given):
    default = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return int(
        subprocess.run([sys.executable, "-c", code], env=default | given, capture_output=True, check=True).stdout
    )


@glibc
def test_a_thread_that_takes_again_what_it_freed_gets_the_same_pages_unless_the_user_wants_it_otherwise():
    pages = 100 * 2**16 // os.sysconf("SC_PAGE_SIZE")
    assert faults(CODE) < 2 * pages < 4 * pages < faults(CODE, MALLOC_TOP_PAD_="131072")


@glibc
def test_large_arrays_take_no_more_pages_than_in_python_alone():
    alone, here = (faults(ARRAYS.format(first=first)) for first in ("", "import pipelines"))
    assert here < alone + 10 * 500_000 * 8 // os.sysconf("SC_PAGE_SIZE")  # less than one in five is taken anew
