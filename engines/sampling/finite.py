"""Numbers that are not finite are found where they arise: they would become a black clip that is called done."""

from __future__ import annotations

import torch

from engines.errors import NotFinite


def finite(values: torch.Tensor, *, role: str, when: str = "") -> torch.Tensor:
    """`values` themselves, once one reduction has shown that all of them are finite.

    Args:
        role: the network that made them: "transformer", "vae", "text_encoder", ...
        when: for people: "at step 3 of 20".

    Raises:
        NotFinite: names the network as the cause.
    """
    if not torch.isfinite(values.detach().sum(dtype=torch.float32)):
        raise NotFinite(role, when=when)
    return values
