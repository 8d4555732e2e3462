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


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not platform.libc_ver()[0], reason="the allocator is glibc's"
)
def test_a_thread_that_takes_again_what_it_freed_gets_the_same_pages_unless_the_user_wants_it_otherwise():
    default = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def faults(**given):
        done = subprocess.run([sys.executable, "-c", CODE], env=default | given, capture_output=True, check=True)
        return int(done.stdout)

    pages = 100 * 2**16 // os.sysconf("SC_PAGE_SIZE")
    assert faults() < 2 * pages < 4 * pages < faults(MALLOC_TOP_PAD_="131072")
