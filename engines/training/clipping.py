"""Gradient clipping at what was usual so far: running mean plus three running deviations of the norm."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass
class AdaptiveClip:
    """The running statistics. A norm above the threshold is clipped to it and not counted.

    Source: FlashI2V's adaptive gradient clipping (decay 0.99, threshold 1 at the start).
    """

    mean: float = 1.0
    variance: float = 0.0
    decay: float = 0.99
    deviations: float = 3.0

    @property
    def threshold(self) -> float:
        """The largest norm that passes."""
        return self.mean + self.deviations * math.sqrt(self.variance)

    def scale(self, norm: float) -> float:
        """What to multiply gradients of this norm with."""
        if norm > self.threshold:
            return self.threshold / norm
        self.variance = self.decay * self.variance + (1 - self.decay) * (norm - self.mean) ** 2
        self.mean = self.decay * self.mean + (1 - self.decay) * norm
        return 1.0
