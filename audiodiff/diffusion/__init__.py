"""The mathematics of diffusion over a Denoiser: processes, parameterisations, grids, samplers, guidance, likelihood."""
