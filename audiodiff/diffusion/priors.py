"""Diffuse under noise that knows its condition: an invertible change of variables around the plain process.

A prior N(0, Sigma(c)) with Sigma = L L^T is the plain process on z = L(c)^-1 x (PriorGrad, Lee et al. 2022, arXiv
2106.06406; SpecGrad, Koizumi et al. 2022, arXiv 2203.16749)::

    x_t = alpha x_0 + sigma L eps   <=>   z_t = alpha z_0 + sigma eps,   z_t = L^-1 x_t

and PriorGrad's loss (eps - eps_hat)^T Sigma^-1 (eps - eps_hat) is the plain loss of z. So a model whitens what it is
trained on and colours what it has sampled, and no process, sampler, loss or guidance knows of it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

import jax

from audiodiff.types import Array, Conditions


class Prior(Protocol):
    """Map x [batch, ...] to z = L(c)^-1 x and back, linear in x, by the raw conditions c. A pytree."""

    def whiten(self, x: Array, conditions: Conditions) -> Array: ...

    def colour(self, z: Array, conditions: Conditions) -> Array: ...


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=[])
@dataclass(frozen=True)
class Standard:
    """Leave x as it is: Sigma = I."""

    def whiten(self, x: Array, conditions: Conditions) -> Array:
        """Return x."""
        return x

    def colour(self, z: Array, conditions: Conditions) -> Array:
        """Return z."""
        return z
