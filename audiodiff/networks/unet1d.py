"""Build the 1-D U-Net: an overlapping patch stem, dilated residual blocks, attention where asked, skips, and a head.

Shapes, where the factors of the levels are f_0, f_1, ... and M is their product::

    x [batch, time, channel]   time is padded with zeros to a multiple of M, and cropped at the end
    -> stem     [batch, time / f_0, channels[0]]
    -> level l  [batch, time / (f_0 ... f_l), channels[l]]
    -> head     [batch, time, channel]
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.nn.initializers import lecun_normal

from audiodiff.networks.attention import Attention, Kind
from audiodiff.networks.conditions import ConditionEncoder, ConditionSpec, resample_frames
from audiodiff.networks.embeddings import NoiseEmbedding, position_features
from audiodiff.networks.layers import Conv1d, Dense, FiLM, RMSNorm, rematerialise, zero_init
from audiodiff.types import Array, Conditions


def to_blocks(x: Array, factor: int) -> Array:
    """Fold time into channels: [batch, time, channel] -> [batch, time / factor, factor * channel].

    A convolution of stride ``factor`` and K * factor taps is an ordinary one of K taps on these blocks, and so is the
    transposed one on the way back (the polyphase form). XLA compiles the ordinary one well on every backend, its
    gradients included. ``time`` must be a multiple of ``factor``.
    """
    batch, time, channels = x.shape
    return x.reshape(batch, time // factor, factor * channels)


def from_blocks(x: Array, factor: int) -> Array:
    """Unfold channels into time, the inverse of :func:`to_blocks`."""
    batch, time, channels = x.shape
    return x.reshape(batch, time * factor, channels // factor)


def gabor_frame(hop: int, blocks: int, features: int) -> np.ndarray:
    """Return windowed cosines, then sines, [features, blocks * hop], each of unit energy; ``features`` is even.

    The window is sin^2 over ``blocks`` hops, the frequencies are (k + 1/2) / features cycles per sample,
    k = 0 .. features/2 - 1: evenly up to half the rate. Shifted by every multiple of the hop, with blocks >= 3 and
    features >= blocks * hop, they are a nearly tight frame, sum |<x, g>|^2 = features/hop |x|^2: the squared windows
    sum to a constant and the frequencies are orthogonal over one window (Daubechies et al. 1986, "painless").
    As a stem's first weights they make the first level a short-time spectrum: a network need not discover that
    sound is made of frequencies before it can learn anything else.
    """
    time = np.arange(blocks * hop) + 0.5
    window = np.sin(np.pi * time / (blocks * hop)) ** 2
    frequency = (np.arange(features // 2) + 0.5) / features
    phase = 2 * np.pi * frequency[:, None] * (time - blocks * hop / 2)
    atoms = np.concatenate([np.cos(phase), np.sin(phase)]) * window
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def _gabor_kernel(hop: int, blocks: int, channels: int, features: int) -> np.ndarray:
    """Return [blocks, hop * channels, features]: each audio channel has its own share of the features."""
    share = features // channels // 2 * 2
    if not share:
        raise ValueError(
            f"a gabor stem of {features} features has no cosine and sine for each of {channels} audio channels: "
            f"use at least {2 * channels}, or the random stem"
        )
    atoms = gabor_frame(hop, blocks, share).reshape(share, blocks, hop)
    kernel = np.zeros((blocks, hop, channels, features))
    for channel in range(channels):
        kernel[:, :, channel, channel * share : (channel + 1) * share] = atoms.transpose(1, 2, 0)
    return kernel.reshape(blocks, hop * channels, features)


def gabor_analysis(hop: int, channels: int) -> Callable[..., Array]:
    """Initialise a stem, a convolution on blocks [tap, hop * channel, features], with :func:`gabor_frame`.

    The initialiser raises ValueError where there are fewer features than a cosine and a sine a channel.
    """

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        taps, _, features = shape
        return jnp.asarray(_gabor_kernel(hop, taps, channels, features), dtype)

    return init


class Spectrum(NamedTuple):
    """Hold coefficients [batch, patch, atoms] of :func:`gabor_analysis`, shared out among so many channels."""

    atoms: Array
    channels: int


def _cosine_and_sine(spectrum: Array, channels: int) -> tuple[Array, Array]:
    """Split coefficients [batch, patch, feature] of :func:`gabor_analysis`, each [batch, patch, channel, frequency]."""
    by_kind = spectrum.reshape(*spectrum.shape[:2], channels, 2, -1)
    return by_kind[:, :, :, 0], by_kind[:, :, :, 1]


def gabor_synthesis(hop: int, channels: int) -> Callable[..., Array]:
    """Initialise a head [tap, features, hop * channel] with the adjoint of :func:`gabor_analysis`: overlap and add."""

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        taps, features, _ = shape
        return jnp.asarray(_gabor_kernel(hop, taps, channels, features)[::-1].swapaxes(1, 2), dtype)

    return init


def _at(name: str, level: int) -> str:
    """Name a submodule of a level; those of the first go without a number."""
    return f"{name}{level}" if level else name


class ResidualBlock(nn.Module):
    """Add to x [batch, time, channel] norm, SiLU, conv, norm, FiLM by vector [batch, dim], SiLU, dilated conv.

    Returns [batch, time, features]. The last convolution begins at zero, so the block begins as the identity, or as a
    1x1 projection where ``features`` differs from the channels of x.
    """

    features: int
    dilation: int = 1
    kernel_size: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, vector: Array) -> Array:
        h = jax.nn.silu(RMSNorm(dtype=self.dtype, name="norm_in")(x))
        h = Conv1d(self.features, self.kernel_size, dtype=self.dtype, name="conv_in")(h)
        h = FiLM(dtype=self.dtype, name="film")(RMSNorm(dtype=self.dtype, name="norm_out")(h), vector)
        h = Conv1d(
            self.features,
            self.kernel_size,
            dilation=self.dilation,
            dtype=self.dtype,
            kernel_init=zero_init,
            name="conv_out",
        )(jax.nn.silu(h))
        if x.shape[-1] != self.features:
            x = Dense(self.features, use_bias=False, dtype=self.dtype, name="project")(x)
        return x + h


class UNet1d(nn.Module):
    """Denoise [batch, time, channel] at several rates, from coarse context to fine detail.

    ``factors[l]`` divides time on the way to level l, ``factors[0]`` in the stem; ``channels``, ``blocks`` and
    ``attention_heads`` (0: none) have one entry a level too. Blocks of a level take their dilations in turn from
    ``dilations``. ``overlap`` is how many blocks of a factor each resampling kernel spans: patches side by side
    (overlap 1) are heard as a buzz at their rate.

    ``stem`` says how patches begin: "random"; "gabor", as the short-time spectrum of :func:`gabor_frame`; or
    "spectral", a longer one of ``atoms`` features over ``atom_blocks`` blocks beside its log-energy. The head then
    scales and turns it atom by atom before synthesis, so that a harmonic is denoised by numbers that change slowly.
    With ``long_level`` a second spectrum, of ``long_atoms`` over ``long_blocks`` of that level's blocks, enters there
    and its masked synthesis is added. It is to tell harmonics apart: N samples of window resolve 2 rate/N Hz, and a
    network that cannot resolve a pitch cannot be asked for it (docs/results/digits.md).
    ``attention`` and ``window`` are :class:`Attention`'s. ``remat`` computes blocks and attention again in the
    backward pass instead of keeping their activations (:func:`rematerialise`). Any length goes in, unless ``strict``
    asks for multiples of ``multiple``.

    Conditions: "global" is added to the noise embedding, which modulates every block (FiLM); "frames" are brought to
    the stem's rate and added to its output by a dense layer, which is what concatenating them to its input comes to;
    "signal" [batch, time, channel], a coarser model's, goes through a stem of its own, added likewise, and where it has
    the channels of x a spectral head scales and turns its atoms too; "tokens" are cross-attended wherever a level
    attends, and where they were made of a signal, positions know their place on it.

    Raises:
      ValueError: for levels that disagree or cannot be, tokens that no level attends to, or a length that ``strict``
        refuses.
    """

    factors: tuple[int, ...] = (32, 2, 2)
    channels: tuple[int, ...] = (128, 192, 256)
    blocks: tuple[int, ...] = (1, 1, 1)
    attention_heads: tuple[int, ...] = (0, 0, 4)
    attention: Kind = "full"
    window: int = 0
    dilations: tuple[int, ...] = (1, 2, 4)
    overlap: int = 3
    stem: Literal["gabor", "random", "spectral"] = "gabor"
    atoms: int = 256
    atom_blocks: int = 7
    long_level: int = 0
    long_atoms: int = 512
    long_blocks: int = 7
    embedding: int = 256
    conditions: tuple[ConditionSpec, ...] = ()
    remat: bool = False
    strict: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = {name: len(getattr(self, name)) for name in ("factors", "channels", "blocks", "attention_heads")}
        if len(set(levels.values())) != 1:
            raise ValueError(f"the levels of a UNet1d disagree: {levels}; give each tuple one entry a level")
        for name, least in (("factors", 1), ("channels", 1), ("dilations", 1), ("blocks", 0), ("attention_heads", 0)):
            if not (values := getattr(self, name)) or min(values) < least:
                raise ValueError(f"{name} is {values}: give at least one number, each at least {least}")
        if self.stem not in (stems := ("gabor", "random", "spectral")):
            nearest = difflib.get_close_matches(str(self.stem), stems, n=len(stems), cutoff=0.0)
            raise ValueError(f"unknown stem {self.stem!r}: choose one of {', '.join(nearest)}")
        for name in ("overlap", "atom_blocks", "long_blocks"):
            if (span := getattr(self, name)) < 1 or span % 2 == 0:
                raise ValueError(f"{name} is {span}: a centred kernel spans an odd number of blocks, 1, 3, 5 ...")
        for name in ("atoms", "long_atoms"):
            if (atoms := getattr(self, name)) < 2 or atoms % 2:
                raise ValueError(f"{name} is {atoms}: a cosine and a sine of each frequency make an even number")
        if not 0 <= self.long_level < len(self.factors) or (self.long_level and self.stem != "spectral"):
            raise ValueError(
                f"long_level is {self.long_level}: choose 1 to {len(self.factors) - 1} with the spectral stem, "
                "or 0 for no long spectrum"
            )
        for features, heads in zip(self.channels, self.attention_heads, strict=True):
            if heads and features % (2 * heads):  # rotary positions turn the channels of a head in pairs
                raise ValueError(
                    f"{heads} attention heads cannot share {features} channels: use a multiple of {2 * heads}"
                )
        tokens = [spec.name for spec in self.conditions if spec.kind == "tokens" or self._attends(spec)]
        if tokens and not any(self.attention_heads):
            raise ValueError(f"no level attends to the tokens of condition {tokens[0]!r}: give a level attention_heads")

    @property
    def multiple(self) -> int:
        """The number of samples that lengths are padded to a multiple of."""
        return math.prod(self.factors)

    @property
    def spectra(self) -> dict[int, tuple[int, int]]:
        """The spectra that the network hears: (atoms, blocks) by the level whose blocks they span."""
        if self.stem != "spectral":
            return {}
        return {self.long_level: (self.long_atoms, self.long_blocks), 0: (self.atoms, self.atom_blocks)}

    @staticmethod
    def _attends(spec: ConditionSpec) -> bool:
        """Return whether a condition is a signal that is attended to."""
        return spec.kind == "signal" and "attention" in spec.routes

    def setup(self) -> None:
        self.condition_encoder = ConditionEncoder(self.conditions, self.embedding, dtype=self.dtype)

    def encode(self, conditions: Conditions, present: Conditions | None = None) -> dict[str, Array]:
        """Encode raw conditions, once per sample."""
        return self.condition_encoder(conditions, present)

    def init_all(self, x: Array, noise_condition: Array, conditions: Conditions) -> Array:
        """Touch every parameter: encode raw conditions and call the network."""
        return self(x, noise_condition, self.encode(conditions))

    @nn.compact
    def __call__(self, x: Array, noise_condition: Array, conditions: Conditions) -> Array:
        """Return an array of the shape of x [batch, time, channel], for noise_condition [batch], float32 or wider."""
        time, audio_channels = x.shape[1:]
        vector = self._vector(noise_condition, conditions)
        tokens = conditions.get("tokens")
        h, spectra = self._stem(x, conditions)
        skips, masked = [h], []
        for level, features in enumerate(self.channels):
            if level:
                h = self._conv(features, f"down{level}")(to_blocks(h, self.factors[level]))
                if level in spectra:
                    h = h + self._features(spectra[level], level)
                skips.append(h)
            for index in range(self.blocks[level]):
                h = self._block(h, vector, tokens, level, index, "encoder")
                skips.append(h)
        h = self._block(h, vector, tokens, len(self.channels) - 1, 0, "middle")
        for level in reversed(range(len(self.channels))):
            for index in reversed(range(self.blocks[level] + 1)):
                h = self._block(jnp.concatenate([h, skips.pop()], -1), vector, tokens, level, index, "decoder")
            if level in spectra:
                normed = jax.nn.silu(RMSNorm(dtype=self.dtype, name=_at("norm", level))(h))
                masked.append(self._masked(normed, spectra[level], level))
            if level:
                factor, features = self.factors[level], self.channels[level - 1]
                h = from_blocks(self._conv(factor * features, f"up{level}")(h), factor)
        y = sum(masked[1:], masked[0]) if masked else self._head(h, audio_channels)
        return y[:, :time].astype(jnp.promote_types(self.dtype, jnp.float32))

    def _vector(self, noise_condition: Array, conditions: Conditions) -> Array:
        """Embed noise level and global conditions as the vector [batch, embedding] that modulates every block."""
        vector = NoiseEmbedding(self.embedding, dtype=self.dtype, name="noise_embedding")(noise_condition)
        if "global" in conditions:
            vector = vector + conditions["global"].astype(vector.dtype)
            vector = vector + Dense(self.embedding, dtype=self.dtype, name="mix")(jax.nn.silu(vector))
        return jax.nn.silu(vector)

    def _stem(self, x: Array, conditions: Conditions) -> tuple[Array, dict[int, list[Spectrum]]]:
        """Pad x [batch, time, channel] and cut it into overlapping patches [batch, patch, channels[0]].

        With them come, where the stem is spectral, the spectra by the level that they belong to: that of x, and that of
        the signal beside it.
        """
        time, hop = x.shape[1], self.factors[0]
        lower, missing = time - time % self.multiple, -time % self.multiple
        if self.strict and missing:
            legal = f"{lower} or {time + missing}" if lower else f"{time + missing}"
            raise ValueError(f"{time} samples are not a multiple of {self.multiple}: use {legal}")
        heard = {"": x}
        if (signal := conditions.get("signal")) is not None:
            if signal.shape[1] != time:
                raise ValueError(f"the signal has {signal.shape[1]} positions and x {time}: bring it to those of x")
            heard["signal_"] = signal
        heard = {name: jnp.pad(a, ((0, 0), (0, missing), (0, 0))).astype(self.dtype) for name, a in heard.items()}
        spectra: dict[int, list[Spectrum]] = {}
        if self.stem == "spectral":
            spectra = {level: [self._spectrum(a, level, name) for name, a in heard.items()] for level in self.spectra}
            h = self._features(spectra[0], 0)
        else:
            first, *others = (self._patches(a, name) for name, a in heard.items())
            h = sum(others, first)
        if "frames" in conditions:
            # Frames cover the sound, not its padding.
            frames = resample_frames(conditions["frames"], -(-time // hop)).astype(h.dtype)
            frames = jnp.pad(frames, ((0, 0), (0, h.shape[1] - frames.shape[1]), (0, 0)), mode="edge")
            h = h + Dense(self.channels[0], dtype=self.dtype, name="frames")(frames)
        return h, spectra

    def _patches(self, x: Array, name: str) -> Array:
        """Cut padded x [batch, time, channel] into features [batch, patch, channels[0]]."""
        analysis = gabor_analysis(self.factors[0], x.shape[-1]) if self.stem == "gabor" else lecun_normal()
        return self._conv(self.channels[0], f"{name}stem", kernel_init=analysis)(to_blocks(x, self.factors[0]))

    def _spectrum(self, x: Array, level: int, name: str) -> Spectrum:
        """Analyse padded x [batch, time, channel] over the blocks of a level."""
        (atoms, _), channels = self.spectra[level], x.shape[-1]
        if atoms % (2 * channels):
            raise ValueError(
                f"{channels} channels cannot share {atoms} atoms as cosines and sines: use a multiple of {2 * channels}"
            )
        analysis = gabor_analysis(self._hop(level), channels)
        analyse = self._atoms(atoms, level, f"{name}analysis", kernel_init=analysis)
        return Spectrum(analyse(to_blocks(x, self._hop(level))), channels)

    def _features(self, spectra: list[Spectrum], level: int) -> Array:
        """Turn spectra of a level and their log-energies into features [batch, patch, channels[level]]."""
        parts = []
        for spectrum, channels in spectra:
            # The energy of a cosine and its sine does not turn with the phase, and so tells at once where sound is.
            cosine, sine = _cosine_and_sine(spectrum, channels)
            energy = jnp.log(jnp.square(cosine) + jnp.square(sine) + 1e-8) / 4
            parts += [spectrum, energy.reshape(*spectrum.shape[:2], -1)]
        return Dense(self.channels[level], dtype=self.dtype, name=_at("stem", level))(jnp.concatenate(parts, -1))

    def _head(self, h: Array, audio_channels: int) -> Array:
        """Turn patches [batch, patch, channels[0]] into overlapping sound [batch, time, channel]; zero at first."""
        hop = self.factors[0]
        h = jax.nn.silu(RMSNorm(dtype=self.dtype, name="norm")(h))
        if self.stem == "random":
            return from_blocks(self._conv(hop * audio_channels, "head", kernel_init=zero_init)(h), hop)
        # The zeros are those of this dense layer, so that the synthesis frame behind it is there from the first step.
        h = Dense(self.channels[0], dtype=self.dtype, kernel_init=zero_init, name="coefficients")(h)
        synthesis = gabor_synthesis(hop, audio_channels)
        return from_blocks(self._conv(hop * audio_channels, "head", kernel_init=synthesis, use_bias=False)(h), hop)

    def _masked(self, h: Array, spectra: list[Spectrum], level: int) -> Array:
        """Scale and turn each atom of what is heard in the channels of x, add coefficients of one's own, synthesise."""
        options: dict[str, Any] = {"dtype": self.dtype, "kernel_init": zero_init}
        audio_channels, hop, atoms = spectra[0].channels, self._hop(level), spectra[0].atoms.shape[-1]
        coefficients = Dense(atoms, name=_at("coefficients", level), **options)(h)
        for name, (spectrum, channels) in zip(("mask", "signal_mask"), spectra, strict=False):
            if channels == audio_channels:
                cosine, sine = _cosine_and_sine(spectrum, channels)
                gain, turn = _cosine_and_sine(Dense(atoms, name=_at(name, level), **options)(h), channels)
                turned = jnp.stack([gain * cosine - turn * sine, gain * sine + turn * cosine], axis=3)
                coefficients = coefficients + turned.reshape(spectrum.shape)
        adjoint = gabor_synthesis(hop, audio_channels)

        def synthesis(key: Array, shape: tuple[int, int, int], dtype: Any = jnp.float32) -> Array:
            # Over its redundancy the adjoint of the frame is nearly its inverse, and a mask of ones the identity.
            return adjoint(key, shape, dtype) * (hop * audio_channels / atoms)

        head = self._atoms(hop * audio_channels, level, "head", kernel_init=synthesis)
        return from_blocks(head(coefficients), hop)

    def _hop(self, level: int) -> int:
        """Return how many samples lie between two positions of a level."""
        return math.prod(self.factors[: level + 1])

    def _atoms(self, features: int, level: int, name: str, kernel_init: Any) -> Conv1d:
        """Make the convolution over a level's blocks that analyses into atoms, or synthesises from them."""
        options: dict[str, Any] = {"use_bias": False, "dtype": self.dtype, "kernel_init": kernel_init}
        return Conv1d(features, self.spectra[level][1], name=_at(name, level), **options)

    def _conv(self, features: int, name: str, **options: Any) -> Conv1d:
        """Make a convolution over blocks, the polyphase form of a strided or transposed one."""
        return Conv1d(features, self.overlap, dtype=self.dtype, name=name, **options)

    def _block(self, x: Array, vector: Array, tokens: Array | None, level: int, index: int, part: str) -> Array:
        """Apply one residual block, then self-attention and cross-attention where the level attends."""
        features, heads = self.channels[level], self.attention_heads[level]
        name = f"{part}{level}_{index}"
        block = ResidualBlock(features, self._dilation(index), dtype=self.dtype, name=name)
        x = self._apply(block, x, vector)

        def attend(role: str, context: Array | None, **options: Any) -> Array:
            normed = RMSNorm(dtype=self.dtype, name=f"{name}_{role}_norm")(x)
            if context is not None and any(map(self._attends, self.conditions)):
                places = position_features(x.shape[1], features, context.shape[1] / x.shape[1])
                normed = normed + Dense(features, use_bias=False, dtype=self.dtype, name=f"{name}_place")(places)
            options |= {"dtype": self.dtype, "output_init": zero_init, "name": f"{name}_{role}"}
            return self._apply(Attention(heads, features // heads, **options), normed, context)

        if heads:
            x = x + attend("attention", None, kind=self.attention, window=self.window, rotary=True)
            if tokens is not None:
                x = x + attend("cross", tokens)
        return x

    def _apply(self, module: nn.Module, *arguments: Any) -> Any:
        """Call a module, so that its activations are kept, or under ``remat`` computed again."""
        return rematerialise(module, *arguments) if self.remat else module(*arguments)

    def _dilation(self, index: int) -> int:
        """Return the dilation of a level's block of that index."""
        return self.dilations[index % len(self.dilations)]

    def receptive_field(self) -> int:
        """Return how many samples the convolutions let one output sample hear, at most.

        Ends of intervals are followed from an output sample back through the deepest path, which holds every other one;
        samples differ by where in a block they lie. Attention, where there is any, hears all positions (or those in its
        window) beyond this. A long spectrum opens further paths, in and out.
        """
        doors = {0, self.long_level}
        paths = [self._path(entry, leave) for entry in doors for leave in doors]
        widths = []
        for sample in range(self.multiple):
            reached = []
            for path in paths:
                low = high = sample
                for factor, reach in reversed(path):
                    if factor > 0:  # a position of the folded signal was a whole block before
                        low, high = low * factor, high * factor + factor - 1
                    elif factor < 0:
                        low, high = low // -factor, high // -factor
                    low, high = low - reach, high + reach
                reached.append((low, high))
            widths.append(max(high for _, high in reached) - min(low for low, _ in reached) + 1)
        return max(widths)

    def _path(self, entry: int, leave: int) -> list[tuple[int, int]]:
        """List the deepest path between two levels' doors as (factor, reach).

        That is to fold by a factor, or unfold if negative; or to reach to both sides.
        """

        def blocks(count: int) -> list[tuple[int, int]]:
            reach = ResidualBlock.kernel_size // 2
            return [(0, reach + reach * self._dilation(index)) for index in range(count)]

        def span(level: int, door: int) -> int:
            """Return the blocks a kernel spans: those of its atoms in a stem or head, else ``overlap``."""
            return self.spectra[level][1] if level == door and self.spectra else self.overlap

        levels, path = range(len(self.factors)), list[tuple[int, int]]()
        for level in levels[entry:]:
            factor = self._hop(level) if level == entry else self.factors[level]
            path += [(factor, 0), (0, span(level, entry) // 2), *blocks(self.blocks[level])]
        path += blocks(1)
        for level in reversed(levels[leave:]):
            factor = self._hop(level) if level == leave else self.factors[level]
            path += [*blocks(self.blocks[level] + 1), (0, span(level, leave) // 2), (-factor, 0)]
        return path
