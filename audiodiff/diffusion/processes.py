"""Define the processes x_t = alpha(t) x_0 + sigma(t) eps, t in [0, 1], 0 = data and 1 = noise.

A process is a curve in the (alpha, sigma) plane from (1, 0) outwards. The direction of a point says how noisy x_t is
(SNR = alpha^2 / sigma^2), its length in which scale x_t is written, and t how fast the curve is walked. Drift, velocity
and posterior follow from alpha and sigma alone.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from audiodiff.diffusion.noise import initial_noise, standard_normal
from audiodiff.types import Array, Level


def expand(values: Array, x: Array) -> Array:
    """Reshape values [batch] (or a scalar) so that they broadcast over the trailing axes of x [batch, ...]."""
    values = jnp.asarray(values)
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim))


def mix(level: Level, x0: Array, eps: Array) -> Array:
    """Return x_t = alpha x_0 + sigma eps for a level of scalars or [batch]."""
    return expand(level.alpha, x0) * x0 + expand(level.sigma, x0) * eps


def corrupt(key: Array, x0: Array, level: Level) -> tuple[Array, Array]:
    """Draw (x_t, eps) at a level [batch], with eps from one key or from [batch] keys."""
    eps = standard_normal(key, x0.shape, x0.dtype)
    return mix(level, x0, eps), eps


class Curve:
    """Share what every process derives from ``alpha(t)``, ``sigma(t)`` and ``on_curve(level)``."""

    def alpha(self, t: Array) -> Array:
        raise NotImplementedError

    def sigma(self, t: Array) -> Array:
        raise NotImplementedError

    def on_curve(self, level: Level) -> Level:
        """Return the level of the same SNR in the scale of this process: x_t may be rescaled, never its SNR."""
        raise NotImplementedError

    def level(self, t: Array) -> Level:
        """Return (alpha(t), sigma(t))."""
        t = jnp.asarray(t)
        return Level(self.alpha(t), self.sigma(t))

    def at_logsnr(self, logsnr: Array) -> Level:
        """Return the level of this process at logsnr = 2 ln(alpha / sigma), infinities included."""
        return self.on_curve(Level(jnp.sqrt(jax.nn.sigmoid(logsnr)), jnp.sqrt(jax.nn.sigmoid(-logsnr))))

    def corrupt(self, key: Array, x0: Array, t: Array) -> tuple[Array, Array]:
        """Draw (x_t, eps) at times t [batch], with eps from one key or from [batch] keys."""
        return corrupt(key, x0, self.level(t))

    def prior(self, key: Array, shape: tuple[int, ...], dtype: jnp.dtype | type = jnp.float32) -> Array:
        """Draw from N(0, sigma(1)^2 I), what is left of x_1 when the data are forgotten."""
        return initial_noise(key, shape, self.level(jnp.ones((), dtype)), dtype=dtype)


class UnitCurve(Curve):
    """Share what every variance-preserving process has: alpha^2 + sigma^2 = 1."""

    def on_curve(self, level: Level) -> Level:
        length = jnp.hypot(level.alpha, level.sigma)
        return Level(level.alpha / length, level.sigma / length)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["beta_min", "beta_max"])
@dataclass(frozen=True)
class VpLinear(UnitCurve):
    """Walk with beta(t) = beta_min + t (beta_max - beta_min): the continuous DDPM (Song et al. 2021, eq. 32).

    alpha = exp(-t beta_min / 2 - t^2 (beta_max - beta_min) / 4).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _log_alpha(self, t: Array) -> Array:
        return -t * self.beta_min / 2 - t**2 * (self.beta_max - self.beta_min) / 4

    def alpha(self, t: Array) -> Array:
        return jnp.exp(self._log_alpha(t))

    def sigma(self, t: Array) -> Array:
        return jnp.sqrt(-jnp.expm1(2 * self._log_alpha(t)))


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["s"])
@dataclass(frozen=True)
class VpCosine(UnitCurve):
    """Walk with alpha = cos(theta) / cos(theta_0), theta = (t + s)/(1 + s) pi/2 (Nichol & Dhariwal 2021, eq. 17).

    With s = 0 it is the plain quarter circle (cos, sin)(pi t / 2) of Salimans & Ho; SNR is 0 at t = 1 either way.
    """

    s: float = 0.008

    @property
    def _start(self) -> float:
        return self.s / (1 + self.s) * math.pi / 2

    def _turn(self, t: Array) -> Array:
        return t / (1 + self.s) * math.pi / 2

    def alpha(self, t: Array) -> Array:
        return jnp.maximum(jnp.cos(self._turn(t) + self._start), 0.0) / math.cos(self._start)

    def sigma(self, t: Array) -> Array:
        turn = self._turn(t)
        if self.s == 0:
            return jnp.sin(turn)
        # 1 - alpha^2 as a product, which keeps its digits where alpha is near 1.
        return jnp.sqrt(jnp.sin(turn) * jnp.sin(turn + 2 * self._start)) / math.cos(self._start)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=[])
@dataclass(frozen=True)
class VpCrash(UnitCurve):
    """Walk with sigma = sin^2(pi t / 2): the "crash" schedule of Dance Diffusion, after Rouard & Hadjeres (2021)."""

    def alpha(self, t: Array) -> Array:
        turn = jnp.asarray(t) * math.pi / 2
        return jnp.maximum(jnp.cos(turn), 0.0) * jnp.sqrt(1 + jnp.sin(turn) ** 2)

    def sigma(self, t: Array) -> Array:
        return jnp.sin(jnp.asarray(t) * math.pi / 2) ** 2


@functools.partial(jax.tree_util.register_dataclass, data_fields=["angles"], meta_fields=[])
@dataclass(frozen=True)
class DiscreteVp(UnitCurve):
    """Walk through a table of T noise levels: step i stands at t = i / T, the data at t = 0.

    ``angles`` [T+1] holds arctan(sigma_i / alpha_i). Between steps the angle is linear in t; unlike log-SNR it is
    finite at the data and at zero terminal SNR, and it keeps the digits of both a small sigma and a small alpha.
    """

    angles: Array

    @classmethod
    def from_betas(cls, betas: np.ndarray) -> DiscreteVp:
        """Build the table from beta_1 .. beta_T in (0, 1]: alpha_i^2 = prod_{j <= i} (1 - beta_j) (Ho et al. 2020)."""
        betas = _checked(betas)
        with np.errstate(divide="ignore"):
            log_abar = np.cumsum(np.log1p(-betas))
        angles = np.arctan2(np.sqrt(-np.expm1(log_abar)), np.exp(log_abar / 2))
        return cls(jnp.asarray(np.concatenate([[0.0], angles])))

    @property
    def steps(self) -> int:
        """Return T."""
        return self.angles.shape[0] - 1

    def _angle(self, t: Array) -> Array:
        t = jnp.asarray(t)
        t = t.astype(jnp.promote_types(t.dtype, jnp.float32))
        angles = jnp.asarray(self.angles).astype(t.dtype)
        return jnp.interp(t * self.steps, jnp.arange(self.steps + 1, dtype=t.dtype), angles)

    def alpha(self, t: Array) -> Array:
        # cos(pi/2) is not quite 0, and below it in float32; at zero terminal SNR no signal must be left.
        cosine = jnp.cos(self._angle(t))
        return jnp.where(cosine < jnp.finfo(cosine.dtype).eps, 0.0, cosine)

    def sigma(self, t: Array) -> Array:
        return jnp.sin(self._angle(t))


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["sigma_min", "sigma_max", "rho"])
@dataclass(frozen=True)
class Edm(Curve):
    """Walk with alpha = 1 and sigma even in its rho-th root from sigma_min to sigma_max (Karras et al. 2022, eq. 5).

    sigma = (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho. ``rho = inf`` is the geometric path
    sigma_min^(1-t) sigma_max^t of the VE SDE (Song et al. 2021). At t = 0 sigma_min is left, in the unit of the data.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def alpha(self, t: Array) -> Array:
        return jnp.ones_like(self.sigma(t))

    def sigma(self, t: Array) -> Array:
        t = jnp.asarray(t)
        if math.isinf(self.rho):
            return self.sigma_min * (self.sigma_max / self.sigma_min) ** t
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (low + t * (high - low)) ** self.rho

    def on_curve(self, level: Level) -> Level:
        return Level(jnp.ones_like(level.alpha), level.sigma / level.alpha)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["beta_min", "beta_max"])
@dataclass(frozen=True)
class SubVp(Curve):
    """Walk with the alpha of VpLinear and sigma = 1 - alpha^2, a variance below VP's (Song et al. 2021, eq. 15)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _vp(self) -> VpLinear:
        return VpLinear(self.beta_min, self.beta_max)

    def alpha(self, t: Array) -> Array:
        return self._vp().alpha(t)

    def sigma(self, t: Array) -> Array:
        return self._vp().sigma(t) ** 2

    def on_curve(self, level: Level) -> Level:
        # The positive root c of c sigma = 1 - (c alpha)^2, in the form without a division by alpha.
        scale = 2 / (level.sigma + jnp.hypot(level.sigma, 2 * level.alpha))
        return Level(scale * level.alpha, scale * level.sigma)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=[])
@dataclass(frozen=True)
class RectifiedFlow(Curve):
    """Walk the straight line alpha = 1 - t, sigma = t (Liu et al. 2023; Lipman et al. 2023 with sigma_min = 0)."""

    def alpha(self, t: Array) -> Array:
        return 1 - t

    def sigma(self, t: Array) -> Array:
        return jnp.asarray(t)

    def on_curve(self, level: Level) -> Level:
        total = level.alpha + level.sigma
        return Level(level.alpha / total, level.sigma / total)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["process", "shift"], meta_fields=[])
@dataclass(frozen=True)
class Shifted(Curve):
    """Multiply sigma / alpha by ``shift`` on the curve of another process: logsnr(t) - 2 ln shift.

    The shift for resolution of Hoogeboom et al. (2023); on RectifiedFlow it is t -> shift t / (1 + (shift - 1) t)
    of Esser et al. (2024). Above 1 means more noise: longer signals repeat themselves and need it.
    """

    process: Curve = field(default_factory=VpCosine)
    shift: float | Array = 1.0

    def _level(self, t: Array) -> Level:
        plain = self.process.level(t)
        return self.process.on_curve(Level(plain.alpha, self.shift * plain.sigma))

    def alpha(self, t: Array) -> Array:
        return self._level(t).alpha

    def sigma(self, t: Array) -> Array:
        return self._level(t).sigma

    def on_curve(self, level: Level) -> Level:
        return self.process.on_curve(level)


# --- tables of betas


def linear_betas(first: float, last: float, steps: int) -> np.ndarray:
    """Return beta_1 .. beta_T evenly spaced from first to last, float64 [steps]."""
    return _checked(np.linspace(first, last, steps))


def cosine_betas(steps: int = 1000, s: float = 0.008, largest: float = 0.999) -> np.ndarray:
    """Return the betas of VpCosine at t = i / steps, at most ``largest`` (Nichol & Dhariwal 2021, eq. 17), float64."""
    abar = np.cos((np.arange(steps + 1) / steps + s) / (1 + s) * np.pi / 2) ** 2
    return _checked(np.minimum(1 - abar[1:] / abar[:-1], largest))


def zero_terminal_snr(betas: np.ndarray) -> np.ndarray:
    """Rescale a table so that alpha_T = 0 while alpha_1 is kept (Lin et al. 2024, algorithm 1), float64 [steps].

    sqrt(abar) <- (sqrt(abar) - sqrt(abar_T)) sqrt(abar_1) / (sqrt(abar_1) - sqrt(abar_T)).
    """
    alpha = np.sqrt(np.cumprod(1 - _checked(betas)))
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return 1 - (alpha / np.concatenate([[1.0], alpha[:-1]])) ** 2


def _checked(betas: np.ndarray) -> np.ndarray:
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or not betas.size or not np.all((betas > 0) & (betas <= 1)):
        raise ValueError(f"betas must be a row of numbers in (0, 1], got {betas!r}: check the first and last value")
    return betas


DIFFWAVE_200 = (1e-4, 0.02, 200)
"""Kong et al. 2021, unconditional SC09; 36 % of the signal's amplitude is left at t = 1."""
DIFFWAVE_50 = (1e-4, 0.05, 50)
"""Kong et al. 2021, vocoder BASE."""
DDPM_1000 = (1e-4, 0.02, 1000)
"""Ho et al. 2020."""
WAVEGRAD_1000 = (1e-6, 0.01, 1000)
"""Chen et al. 2021."""

# --- what follows from alpha and sigma


def logsnr(level: Level) -> Array:
    """Return 2 ln(alpha / sigma): -inf at zero SNR, inf at the data."""
    return 2 * (jnp.log(level.alpha) - jnp.log(level.sigma))


def _rates(process: Curve, t: Array) -> tuple[Level, Level]:
    """Return the level at t and its derivative by t."""
    t = jnp.asarray(t)
    return jax.jvp(process.level, (t,), (jnp.ones_like(t),))


def drift(process: Curve, t: Array) -> Array:
    """Return f(t) = d ln alpha / dt of the forward SDE dx = f x dt + g dw (Kingma et al. 2021)."""
    level, rate = _rates(process, t)
    return rate.alpha / level.alpha


def diffusion_squared(process: Curve, t: Array) -> Array:
    """Return g^2(t) = d sigma^2 / dt - 2 f sigma^2 of the forward SDE dx = f x dt + g dw (Kingma et al. 2021)."""
    level, rate = _rates(process, t)
    return 2 * level.sigma * (rate.sigma - level.sigma * rate.alpha / level.alpha)


def velocity(process: Curve, x0: Array, eps: Array, t: Array) -> Array:
    """Return dx_t / dt = alpha'(t) x_0 + sigma'(t) eps at times t [batch], the target of flow matching."""
    _, rate = _rates(process, t)
    return mix(rate, x0, eps)


def transition(earlier: Level, later: Level) -> tuple[Array, Array]:
    """Return (ratio, variance) of q(x_t | x_s) = N(ratio x_s, variance I), s = earlier (cleaner) and t = later.

    ratio = alpha_t / alpha_s and variance = sigma_t^2 - ratio^2 sigma_s^2 (Kingma et al. 2021).
    """
    ratio = later.alpha / earlier.alpha
    return ratio, later.sigma**2 - (ratio * earlier.sigma) ** 2


def posterior(x_t: Array, x0: Array, later: Level, earlier: Level) -> tuple[Array, Array]:
    """Return mean and variance of q(x_s | x_t, x_0), s = earlier (cleaner) and t = later (Ho et al. 2020, eq. 7).

    With q = (alpha_t / sigma_t)(sigma_s / alpha_s): mean = q sigma_s/sigma_t x_t + alpha_s (1 - q^2) x_0 and variance
    = sigma_s^2 (1 - q^2), both finite at alpha_t = 0 and at sigma_s = 0. Levels are scalars or [batch].
    """
    shrink = (later.alpha * earlier.sigma) / (later.sigma * earlier.alpha)
    mean = mix(Level(shrink * earlier.sigma / later.sigma, earlier.alpha * (1 - shrink**2)), x_t, x0)
    return mean, earlier.sigma**2 * (1 - shrink**2)
