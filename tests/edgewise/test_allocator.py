"""Freed memory is kept on request, and given back on request; each in a process of its own."""

import subprocess
import sys

import pytest

SIZE = 200 * 2**20
SCRIPT = """
import psutil, torch
from edgewise.allocator import keep_freed_memory, release_freed_memory

def resident():
    return psutil.Process().memory_info().rss

print(keep_freed_memory(), resident())
torch.ones({size}, dtype=torch.uint8)
print(resident())
release_freed_memory()
print(resident())
"""


@pytest.mark.slow
def test_freed_memory_is_kept_until_it_is_released() -> None:
    script = SCRIPT.format(size=SIZE)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    can_keep, *sizes = run.stdout.split()
    if can_keep == "False":
        pytest.skip("the C library is not glibc")
    before, kept, released = map(int, sizes)
    assert kept - before > 0.9 * SIZE
    assert released - before < 0.1 * SIZE
