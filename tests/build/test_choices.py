"""A wrong name is told so kindly: what was given, and what can be, nearest first."""

from __future__ import annotations

import pytest

from audiodiff.build import data, model, network, process, sampler
from audiodiff.build.choices import ConfigError, call, choose, construct, nearest_first, options

TABLES = {
    "sampler": sampler.SAMPLERS,
    "process": process.PROCESSES,
    "weighting": process.WEIGHTINGS,
    "levels": process.LEVELS,
    "grid": process.GRIDS,
    "parameterisation": process.PARAMETERISATIONS,
    "network": network.NETWORKS,
    "layout": data.LAYOUTS,
    "mel preset": model.dsp.MEL_PRESETS,
}


@pytest.mark.parametrize("what", TABLES)
def test_every_name_is_the_nearest_to_itself_without_its_first_letter(what):
    for name in (name for name in TABLES[what] if len(name) > 2):
        slip = name[1:]
        with pytest.raises(ConfigError, match=f"unknown {what} '{slip}'; choose one of {name}(,|$)"):
            choose(what, slip, TABLES[what])


def test_all_valid_names_are_listed_once():
    assert sorted(nearest_first("heum", sampler.SAMPLERS).split(", ")) == sorted(sampler.SAMPLERS)


@pytest.mark.parametrize("name", [None, 3, ["euler"], ""])
def test_what_is_no_name_is_refused_like_a_wrong_one(name):
    with pytest.raises(ConfigError, match="unknown sampler"):
        choose("sampler", name, sampler.SAMPLERS)


def test_an_empty_table_says_so():
    with pytest.raises(ConfigError, match="there is none to choose"):
        choose("condition", "digit", {})


def test_an_unknown_option_is_named_with_those_there_are():
    with pytest.raises(ConfigError, match="process 'edm' takes no 'sigma_mx'; it takes sigma_max, sigma_min, rho"):
        construct("process", process.PROCESSES, {"name": "edm", "sigma_mx": 3.0})
    with pytest.raises(ConfigError, match="sampler 'heun' takes no 'eta'; it takes no options"):
        options("sampler", {"name": "heun", "eta": 1.0}, ())


def test_lists_become_tuples_as_json_had_tuples_become_lists():
    assert options("network", {"name": "unet1d", "factors": [4, 2]}, ("factors",)) == {"factors": (4, 2)}


def refuse(**given):
    raise {"value": ValueError, "type": TypeError, "key": KeyError}[given["kind"]]("it is impossible")


@pytest.mark.parametrize("kind", ["value", "type"])
def test_what_a_constructor_refuses_is_said_with_its_section(kind):
    with pytest.raises(ConfigError, match="^levels 'odd': it is impossible$"):
        call("levels", refuse, {"name": "odd", "kind": kind}, ("kind",))


def test_a_bug_stays_a_bug():
    with pytest.raises(KeyError):
        call("levels", refuse, {"name": "odd", "kind": "key"}, ("kind",))
