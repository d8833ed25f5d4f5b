"""Check grids against published levels, spacings and the process they stand on."""

from __future__ import annotations

import numpy as np
import pytest

from audiodiff.diffusion import grids
from audiodiff.diffusion.processes import DiscreteVp, Edm, RectifiedFlow, VpCosine, linear_betas, logsnr
from audiodiff.types import Level

TABLE = linear_betas(1e-4, 0.02, 1000)


def test_karras_is_the_published_grid(x64):
    grid = grids.karras(10)
    published = [80, 42.415189, 21.108677, 9.723201, 4.066124, 1.501742, 0.469979, 0.116639, 0.020435, 0.002, 0]
    np.testing.assert_allclose(grid.sigma, published, rtol=0, atol=6e-7)
    np.testing.assert_array_equal(grid.alpha, np.ones(11))


def test_karras_on_another_curve_has_the_same_snr(x64):
    plain, bent = grids.karras(6), grids.karras(6, process=VpCosine())
    np.testing.assert_allclose(bent.sigma[:-1] / bent.alpha[:-1], plain.sigma[:-1], rtol=1e-10)
    np.testing.assert_allclose(bent.alpha**2 + bent.sigma**2, 1, rtol=1e-12)


def test_uniform_stands_on_even_times_and_ends_clean(x64):
    grid = grids.uniform(RectifiedFlow(), 4)
    np.testing.assert_allclose(grid.sigma, [1, 0.75, 0.5, 0.25, 0], rtol=1e-12)
    assert grids.uniform(Edm(), 3).sigma[-1] == 0


def test_uniform_logsnr_is_even_in_log_snr(x64):
    grid = grids.uniform_logsnr(5, -8.0, 6.0, VpCosine())
    np.testing.assert_allclose(logsnr(Level(grid.alpha[:-1], grid.sigma[:-1])), np.linspace(-8, 6, 5), rtol=1e-9)


def test_cosine_turns_by_equal_angles(x64):
    quarter, plain = grids.cosine(6, VpCosine()), grids.uniform(VpCosine(s=0.0), 6)
    np.testing.assert_allclose(quarter.sigma, plain.sigma, atol=1e-9)
    flow = grids.cosine(6, RectifiedFlow())
    np.testing.assert_allclose(np.arctan2(flow.sigma, flow.alpha), np.linspace(np.pi / 2, 0, 7), atol=1e-9)


def test_table_spacings_are_lin_s(x64):
    """Lin et al. (2024), table 2: of 1000 steps, trailing takes 1000, 900, .. 100 and leading 901, 801, .. 1."""
    process, abar = DiscreteVp.from_betas(TABLE), np.cumprod(1 - TABLE)
    for spacing, picked in (("trailing", np.arange(1000, 0, -100)), ("leading", np.arange(901, 0, -100))):
        grid = grids.from_table(process, 10, spacing)
        np.testing.assert_allclose(grid.alpha[:-1] ** 2, abar[picked - 1], rtol=1e-9)
        assert float(grid.alpha[-1]) == 1.0 and float(grid.sigma[-1]) == 0.0


def test_diffwave_s_six_steps(x64):
    grid = grids.from_betas(grids.DIFFWAVE_FAST_BETAS)
    np.testing.assert_allclose(
        grid.alpha[:-1] ** 2, np.cumprod(1 - np.array(grids.DIFFWAVE_FAST_BETAS))[::-1], rtol=1e-10
    )
    assert grid.alpha.shape == (7,)


def test_every_grid_falls_to_the_data():
    table = DiscreteVp.from_betas(TABLE)
    for grid in (
        grids.karras(9),
        grids.uniform(VpCosine(), 9),
        grids.uniform_logsnr(9, -9.0, 9.0, RectifiedFlow()),
        grids.cosine(9, Edm()),
        grids.from_table(table, 9),
        grids.from_table(table, 1000, "leading"),
        grids.karras(1),
    ):
        assert np.all(np.diff(np.arctan2(grid.sigma, grid.alpha)) < 0)
        assert float(grid.sigma[-1]) == 0.0 and float(grid.alpha[-1]) == 1.0
        assert grids.level_at(grid, 0).sigma == grid.sigma[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: grids.uniform(VpCosine(), 0), "steps is 0"),
        (lambda: grids.karras(-1), "steps is -1"),
        (lambda: grids.from_table(DiscreteVp.from_betas(TABLE), 1001), "1001 steps of a table of 1000"),
        (lambda: grids.from_table(DiscreteVp.from_betas(TABLE), 10, "even"), "choose 'trailing' or 'leading'"),
    ],
)
def test_impossible_grids_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
