"""Memory: what a training step frees stays with the process."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.keras

MAPPED = textwrap.dedent("""
    import ctypes, sys
    from selftrain.learn.networks.device import keep_freed_memory

    class Info(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

    libc = ctypes.CDLL("libc.so.6")
    libc.mallinfo2.restype, libc.malloc.restype = Info, ctypes.c_void_p
    libc.mallopt(-1, 128 * 1024)  # as TensorFlow does
    if "kept" in sys.argv:
        keep_freed_memory()
    before = libc.mallinfo2().hblks
    libc.malloc(ctypes.c_size_t(4 << 20))
    print(libc.mallinfo2().hblks - before)
""")


def mapped(*arguments: str) -> int:
    """How many blocks of their own four megabytes take from the system."""
    done = subprocess.run([sys.executable, "-c", MAPPED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc 2.33 and newer counts its blocks")
def test_a_block_as_large_as_a_tensor_is_not_mapped_anew() -> None:
    assert mapped() == 1
    assert mapped("kept") == 0
