"""Let a network of one axis denoise a spectrum: its bins become channels, and its frames the time."""

from __future__ import annotations

from flax import linen as nn

from audiodiff.types import Array, Conditions


class OverBins(nn.Module):
    """Denoise x [batch, frame, bin, channel] by a network of [batch, time, channel], as [batch, frame, bin * channel].

    Its convolutions and attention run along frames. Every bin has weights of its own in the first and last layer, so
    low is told from high, and parameters fit one number of bins alone. Conditions are the network's.

    Raises:
      ValueError: for a network whose stem analyses samples, or an x that has no bins.
    """

    network: nn.Module

    def __post_init__(self) -> None:
        super().__post_init__()
        if (stem := getattr(self.network, "stem", "random")) != "random":
            raise ValueError(f"stem is {stem!r}, a spectrum of samples, and over bins x is one already: use 'random'")

    def encode(self, conditions: Conditions, present: Conditions | None = None) -> dict[str, Array]:
        """Encode raw conditions, once per sample."""
        encoded: dict[str, Array] = self.network.encode(conditions, present)
        return encoded

    def init_all(self, x: Array, noise_condition: Array, conditions: Conditions) -> Array:
        """Touch every parameter: encode raw conditions and call the network."""
        return self(x, noise_condition, self.encode(conditions))

    def __call__(self, x: Array, noise_condition: Array, conditions: Conditions) -> Array:
        if x.ndim != 4:
            raise ValueError(f"x has the shape {x.shape}: over bins it is [batch, frame, bin, channel]")
        y: Array = self.network(x.reshape(*x.shape[:2], -1), noise_condition, conditions)
        return y.reshape(x.shape)
