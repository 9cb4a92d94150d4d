"""What happens to the memory of freed tensors on a CPU: kept for the next ones, or given back.

A masked pass allocates tensors of tens of megabytes. glibc gives such blocks back as soon as they
are freed, and the kernel clears every page anew when the next pass touches it. Without that, one
step of Edge Pruning on GPT-2 small takes about a tenth less time, and a curve of ten circuits a
third less (results/README.md).
"""

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Have this process keep what it frees, for tensors to come; False where glibc is not there.

    Its resident memory then stays at the highest it was, up to `release_freed_memory`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # No block has a mapping of its own, and the heap's end is never cut off.
    return mallopt is not None and all(
        mallopt(*option) for option in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    )


def release_freed_memory() -> None:
    """Give back to the system what nothing holds any more."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
