"""Giving back memory-mapped pages of a file that were read once and are not needed again."""

from __future__ import annotations

import ctypes
import mmap
import sys

import torch

DONT_NEED = 4  # madvise(2): drop the pages, read them from the file again when touched


def release_pages(tensor: torch.Tensor) -> None:
    """Drops the resident pages that lie wholly under `tensor`.

    The tensor must be an unmodified view of a mapped file: anywhere else its content would be lost.
    """
    begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if sys.platform.startswith("linux") and end > begin:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), DONT_NEED)
