"""In which order a fetch asks the queues. Source: sidekiq/fetch.rb and capsule.rb: strict, weighted, random."""

from __future__ import annotations

import random
from collections.abc import Mapping


class QueueOrder:
    """The order for each fetch, from the queues' weights.

    No weights (all 0): always the configured order. Otherwise every fetch draws a permutation in which a queue of
    weight 3 comes first three times as often as one of weight 1; equal weights are Sidekiq's "random".
    """

    def __init__(self, weights: Mapping[str, int], rng: random.Random | None = None) -> None:
        self.names = tuple(weights)
        self._strict = not any(weights.values())
        self._tickets = [name for name, weight in weights.items() for _ in range(max(weight, 1))]
        self._rng = rng or random.Random()

    def draw(self) -> tuple[str, ...]:
        """Every queue once, the one to ask first in front."""
        if self._strict or len(self.names) == 1:
            return self.names
        self._rng.shuffle(self._tickets)
        return tuple(dict.fromkeys(self._tickets))
