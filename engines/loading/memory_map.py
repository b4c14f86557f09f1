"""Memory-mapped files: giving back pages that were read once; which of a network's weights still lie in theirs."""

from __future__ import annotations

import ctypes
import mmap
import sys
from weakref import WeakKeyDictionary

import torch

PIECE_BYTES = 64 * 2**20
DONT_NEED = 4  # madvise(2): drop the pages, read them from the file again when touched

_VIEWS: WeakKeyDictionary[torch.nn.Module, dict[str, torch.Tensor]] = WeakKeyDictionary()


def remember_mapped(network: torch.nn.Module, views: dict[str, torch.Tensor]) -> None:
    """Which parameters of a network are untouched views of a mapped file, by name."""
    _VIEWS[network] = views


def mapped(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The views, which take no memory of their own; none of a network that nobody said anything of."""
    return _VIEWS.get(network, {})


def release_pages(tensor: torch.Tensor) -> None:
    """Drops the resident pages that lie wholly under `tensor`.

    The tensor must be an unmodified view of a mapped file: anywhere else its content would be lost.
    """
    begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if sys.platform.startswith("linux") and end > begin:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), DONT_NEED)


def converted(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A view of a mapped file in another precision. Its pages are given back piece by piece, as they were read.

    So a large table takes the memory of what it becomes, and not that of the file besides.
    """
    if not tensor.is_contiguous():
        made = tensor.to(dtype)
        release_pages(tensor)
        return made
    made = torch.empty(tensor.shape, dtype=dtype)
    count = PIECE_BYTES // tensor.element_size()
    for source, target in zip(tensor.view(-1).split(count), made.view(-1).split(count), strict=True):
        target.copy_(source)
        release_pages(source)
    return made
