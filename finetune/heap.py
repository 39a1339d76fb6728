"""How glibc deals out memory: from one heap for all threads, and what was freed stays with the process.

Both are of the whole process, so that whoever owns it decides: the worker does. Elsewhere than on glibc
nothing is done. What the operator sets in `MALLOC_…_` or in `GLIBC_TUNABLES` was chosen by hand and stays.
Without torch: the first is to be said before anything that starts threads is loaded.
"""

import ctypes
import os
import platform

# The numbers of <malloc.h>.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
LARGE = 2**30  # bytes; larger blocks than this still come from the system and go back to it
PAD = 64 * 2**20  # bytes by which the heap grows at least


def use_one_heap() -> bool:
    """Has all threads that begin from now on take memory from one heap, and says whether they do.

    By default they have some of their own, and what threads have freed that decode images is for no step. A
    fork inherits this, and also the heaps of threads that have begun before.
    """
    return _set({ARENA_MAX: 1})


def keep_freed_memory() -> bool:
    """Has glibc keep freed blocks for the next step, and says whether it does.

    By default each large tensor (of 32 MB, and often of less) is mapped anew in each step, and the system
    fills its pages with zeros.
    """
    return _set({MMAP_THRESHOLD: LARGE, TRIM_THRESHOLD: 2 * LARGE - 1, TOP_PAD: PAD})


def give_back_freed_memory() -> None:
    """Has glibc give the system all freed blocks that it still has, where what comes takes others."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _set(settings: dict[int, int]) -> bool:
    chosen = any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ)
    if platform.libc_ver()[0] != "glibc" or chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # another allocator stands before glibc's
        return False
    return all(libc.mallopt(name, value) == 1 for name, value in settings.items())
