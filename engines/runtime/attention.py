"""Which kernel computes the attention of every network of a job: one setting, checked before anything is loaded.

All networks ask diffusers' dispatcher. It is told here, around each use of a network, and left as it was. torch is
imported late: the studio checks the setting too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from engines.errors import StudioError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

AUTO = "auto"


class BadAttention(StudioError):
    """The attention that was chosen cannot be computed here."""


@dataclass(frozen=True)
class Kernel:
    """A way to compute attention.

    Attributes:
        title: as people and metadata call it.
        backend: its name in diffusers' dispatcher.
        module: the module that it needs; "" for torch's own.
        package: the distribution that has the module, at `least` this version.
        install: the line that installs it.
        exact: whether its results are those of torch's own, up to rounding.
        splits: whether diffusers can split it over several devices.
    """

    title: str
    backend: str
    module: str = ""
    package: str = ""
    least: str = ""
    install: str = ""
    exact: bool = True
    splits: bool = True

    @property
    def note(self) -> str:
        """What people should know of it; "" for nothing."""
        return "" if self.exact else f"Attention was computed in 8 bits by {self.title}: details may differ."

    @property
    def own(self) -> bool:
        """Whether it is torch's own: on every device, in every precision."""
        return not self.module

    def missing(self) -> str:
        """Why it is not on this machine, in a sentence that says how to get it; "" if it is."""
        if self.own or (find_spec(self.module) is not None and self._new_enough()):
            return ""
        return f"{self.title} needs the package {self.package}>={self.least}: install it with `{self.install}`."

    def _new_enough(self) -> bool:
        try:
            return _numbers(version(self.package)) >= _numbers(self.least)
        except PackageNotFoundError:  # a build from source may tell no version
            return True


KERNELS = {
    "torch": Kernel("torch", "native"),
    "torch-math": Kernel("torch's plain formula", "_native_math", splits=False),
    "flash-2": Kernel(
        "flash-attn 2",
        "flash",
        "flash_attn",
        "flash-attn",
        "2.6.3",
        "pip install --no-build-isolation flash-attn",
    ),
    "flash-3": Kernel(
        "flash-attn 3",
        "_flash_3",
        "flash_attn_interface",
        "flash-attn-3",
        "3.0",
        "pip install --no-build-isolation 'git+https://github.com/Dao-AILab/flash-attention#subdirectory=hopper'",
        splits=False,
    ),
    "sage": Kernel(
        "SageAttention",
        "sage",
        "sageattention",
        "sageattention",
        "2.1.1",
        "pip install --no-build-isolation git+https://github.com/thu-ml/SageAttention",
        exact=False,
    ),
    "xformers": Kernel("xformers", "xformers", "xformers", "xformers", "0.0.29", "pip install xformers", splits=False),
}
CHOICES = (AUTO, *KERNELS)
_BEST = ("flash-3", "flash-2")  # of those that change nothing, fastest first; torch's own is what is left
_PROBED_TOKENS = 64


@dataclass(frozen=True)
class Attention:
    """What a device computes attention with, and whether that was picked for want of a choice."""

    kernel: Kernel
    picked: bool = False

    def within(self, *, half: bool) -> Kernel:
        """The kernel of networks that compute in half precision, or not: all but torch's own know nothing else."""
        return self.kernel if half or self.kernel.own else KERNELS["torch"]

    def told(self, *, half: bool) -> str:
        """As the metadata of a clip have it."""
        title = self.within(half=half).title
        return f"{title}, picked by auto" if self.picked else title

    @contextmanager
    def active(self, *, half: bool) -> Iterator[None]:
        """For the length of the block, every network's attention is computed with it; see `within`."""
        from diffusers.models.attention_dispatch import attention_backend

        with attention_backend(self.within(half=half).backend):
            yield


def unusable(name: str, device: str) -> str:
    """Why `name` of CHOICES is not to be had on `device` ("cuda:0"), in a sentence; "" if it may be."""
    kernel = KERNELS.get(name)
    if kernel is None or kernel.own:
        return ""
    if device and device.partition(":")[0] != "cuda":
        return f"{kernel.title} computes on CUDA GPUs alone: choose the attention torch, or auto."
    return kernel.missing()


def choose(name: str, device: torch.device, *, split: bool = False) -> Attention:
    """The attention of a device.

    Args:
        name: of CHOICES.
        split: whether one network's tokens are to lie on several devices.

    Raises:
        BadAttention: what was chosen is not installed, or cannot compute on this device.
    """
    if name == AUTO:
        usable = (KERNELS[one] for one in _BEST if not unusable(one, device.type) and _computes(KERNELS[one], device))
        best = next((kernel for kernel in usable if kernel.splits or not split), KERNELS["torch"])
        log.info("attention: %s, picked by auto", best.title)
        return Attention(best, picked=True)
    if why := unusable(name, device.type):
        raise BadAttention(why)
    kernel = KERNELS[name]
    if split and not kernel.splits:
        raise BadAttention(
            f"{kernel.title} cannot be split over devices by sequence.", hint="Choose the attention torch, or auto."
        )
    if not _computes(kernel, device):
        raise BadAttention(f"{kernel.title} does not compute on this device.", hint="Choose the attention torch.")
    return Attention(kernel)


def _computes(kernel: Kernel, device: torch.device) -> bool:
    """Whether a kernel computes a few tokens: a package that is there may have none for this card."""
    import torch

    if kernel.own:
        return True
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    try:
        query = torch.randn(1, _PROBED_TOKENS, 2, 64, device=device, dtype=torch.float16)
        with Attention(kernel).active(half=True):
            return bool(dispatch_attention_fn(query, query, query).isfinite().all())
    except Exception as error:  # whatever a foreign kernel fails with
        log.warning("%s does not compute on %s: %s", kernel.title, device, error)
        return False


def _numbers(text: str) -> tuple[int, ...]:
    """A version's leading whole numbers."""
    parts = []
    for part in text.partition("+")[0].split("."):
        if not part.isdecimal():
            break
        parts.append(int(part))
    return tuple(parts)
