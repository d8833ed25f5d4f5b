"""Answer requests on stdin about the peers' packages, in their own environment, which has no JAX.

"NAME CALLS" times a case and answers {"seconds": ...}; "save NAME PATH" saves what it computes; "facts NAME" counts a
network's parameters and multiplications. Both sides draw the same inputs from numpy's generator 0.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import json
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

TABLE = {  # audio-diffusion-pytorch's README, but for the sizes
    "channels": [8, 32, 64, 128, 256, 512, 512],
    "factors": [1, 4, 4, 4, 2, 2, 2],
    "items": [1, 2, 2, 2, 2, 2, 2],
    "attentions": [0, 0, 0, 0, 0, 1, 1],
    "attention_heads": 8,
    "attention_features": 64,
}
STEPS = 50


def stand_in(name: str, **contents: Any) -> None:
    """Put an empty module where a package imports one that none of these cases calls."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__dict__.update(contents)
    sys.modules[name] = module


def normal(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


@functools.cache
def diffwave() -> tuple[Any, ...]:
    from diffwave.model import DiffWave
    from diffwave.params import params

    return DiffWave(params), normal(4, 15_872), normal(4, 80, 62), torch.tensor([3, 10, 20, 40])


@functools.cache
def unet() -> Any:
    stand_in("torchaudio.transforms")
    stand_in("torchaudio", transforms=sys.modules["torchaudio.transforms"])
    from audio_diffusion_pytorch import DiffusionModel, UNetV0, VDiffusion, VSampler

    return DiffusionModel(net_t=UNetV0, in_channels=1, diffusion_t=VDiffusion, sampler_t=VSampler, **TABLE)


def trainer(model: Any, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-4)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    return step


def diffwave_forward() -> Callable[[], Any]:
    model, audio, mel, step = diffwave()
    return lambda: inference(model, audio, mel, step)


def diffwave_step() -> Callable[[], Any]:
    model, audio, mel, step = diffwave()
    target = normal(4, 1, 15_872)
    return trainer(model, lambda: torch.nn.functional.l1_loss(model(audio, mel, step), target))


def unet_forward() -> Callable[[], Any]:
    return functools.partial(inference, unet().net, normal(4, 1, 16_384), torch.rand(4))


def unet_step() -> Callable[[], Any]:
    model, audio = unet(), normal(4, 1, 16_384)
    return trainer(model, lambda: model(audio))


@torch.inference_mode()
def inference(model: Any, *inputs: torch.Tensor) -> torch.Tensor:
    return model(*inputs)


def mel_filters() -> np.ndarray:
    import librosa

    return librosa.filters.mel(sr=16_000, n_fft=1024, n_mels=80)


def mel_torch() -> Callable[[], Any]:
    audio, window, filters = normal(16, 64_000), torch.hann_window(1024), torch.from_numpy(mel_filters())

    @torch.inference_mode()
    def log_mel() -> torch.Tensor:
        spectrum = torch.stft(audio, 1024, 256, window=window, pad_mode="constant", return_complex=True)
        return torch.log(torch.clamp(filters @ spectrum.abs(), min=1e-5))

    return log_mel


def mel_librosa() -> Callable[[], Any]:
    import librosa

    audio = normal(16, 64_000).numpy()

    def log_mel() -> np.ndarray:
        options: dict[str, Any] = {"sr": 16_000, "n_fft": 1024, "hop_length": 256, "n_mels": 80, "power": 1.0}
        return np.log(np.maximum(librosa.feature.melspectrogram(y=audio, **options), 1e-5))

    return log_mel


@functools.cache
def k_diffusion() -> Any:
    """Return the module of k-diffusion's samplers without the rest of its package."""
    package = importlib.util.find_spec("k_diffusion")
    assert package is not None and package.submodule_search_locations
    stand_in("torchdiffeq", odeint=None)
    stand_in("torchsde")
    stand_in("k_diffusion", __path__=list(package.submodule_search_locations))
    stand_in("k_diffusion.utils", append_dims=lambda x, n: x[(...,) + (None,) * (n - x.ndim)])
    sys.modules["k_diffusion"].utils = sys.modules["k_diffusion.utils"]  # type: ignore[attr-defined]
    from k_diffusion import sampling

    return sampling


def sampler(name: str) -> Callable[[], Any]:
    """Run a sampler of k-diffusion on a denoiser that costs nothing."""
    sampling = k_diffusion()

    run, sigmas, noise = (
        getattr(sampling, f"sample_{name}"),
        sampling.get_sigmas_karras(STEPS, 0.01, 80.0),
        normal(4, 1, 16_384),
    )
    return lambda: run(lambda x, sigma, **_: 0.5 * x, noise * 80.0, sigmas, disable=True)


CASES: dict[str, Callable[[], Callable[[], Any]]] = {
    "diffwave_forward": diffwave_forward,
    "diffwave_step": diffwave_step,
    "unet_forward": unet_forward,
    "unet_step": unet_step,
    "mel_torch": mel_torch,
    "mel_librosa": mel_librosa,
    **{f"sampler_{name}": functools.partial(sampler, name) for name in ("euler", "heun", "dpmpp_2m")},
}


def facts(name: str) -> dict[str, Any]:
    """Count the parameters of a network, and the multiplications of its forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    model = unet() if name == "unet" else diffwave()[0]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if name == "unet":
            model.net(normal(4, 1, 16_384), torch.rand(4))
        else:
            model(*diffwave()[1:])
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": parameters, "macs": counter.get_total_flops() / 2}


def timed(case: Callable[[], Any], calls: int) -> float:
    """Return the mean seconds of some calls, after one that is not counted."""
    case()
    begin = time.perf_counter()
    for _ in range(calls):
        case()
    return (time.perf_counter() - begin) / calls


def main() -> None:
    """Answer every line of stdin."""
    ready: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        match line.split():
            case ["facts", name]:
                answer = facts(name)
            case ["save", name, path]:
                np.save(path, np.asarray(CASES[name]()()))
                answer = {"path": path}
            case [name, calls]:
                if name not in ready:
                    ready[name] = CASES[name]()
                answer = {"seconds": timed(ready[name], int(calls))}
            case _:
                raise ValueError(f"unknown request {line!r}: give 'facts NAME', 'save NAME PATH' or 'NAME CALLS'")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
