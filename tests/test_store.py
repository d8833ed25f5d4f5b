"""The store of what a start would make anew: a program is used where nothing has changed, and nowhere else."""

from __future__ import annotations

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from audiodiff import store
from audiodiff.store import NOTHING_KEPT, Store
from audiodiff.training import make_strategy


def double(state, x):
    return {"state": state["state"] + 2 * x["a"]}, [x["key"]]


def arguments(length=4):
    return {"state": jnp.ones(length)}, {"a": jnp.arange(length, dtype=jnp.float32), "key": jax.random.key(3)}


def compiled(kept, *given, name="double", function=double, note=lambda lowered, compiled: None):
    given = given or arguments()
    return kept.compile(name, given, jax.jit(function, donate_argnums=0).lower(*given), note)


@pytest.fixture
def folder(tmp_path):
    """Return a folder in which a program was kept by another start."""

    def note(lowered, compiled):
        return "noted", compiled.memory_analysis() is not None

    compiled(Store(tmp_path, "command"), note=note)
    return tmp_path


def test_a_program_that_was_kept_does_as_it_did_without_being_lowered(folder):
    program = Store(folder, "command").find("double", arguments())
    state, x = arguments()
    after, (key,) = program.run(state, x)
    np.testing.assert_array_equal(after["state"], 1 + 2 * np.arange(4))
    np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(jax.random.key(3)))
    assert program.notes == ("noted", True) and program.outputs[0]["state"].shape == (4,)
    assert state["state"].is_deleted()  # it was donated


def test_nothing_is_found_of_another_command_or_name(folder):
    assert Store(folder, "another").find("double", arguments()) is None
    assert Store(folder, "command").find("triple", arguments()) is None
    assert NOTHING_KEPT.find("double", arguments()) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("code", "another version of the code"),
        ("given", "another experiment"),
        ("shape", "another arguments"),
        ("dtype", "another arguments"),
        ("static", "another arguments"),
        ("place", "another arguments"),
        ("flags", "another environment"),
        ("setting", "another setting of JAX"),
        ("library", "another version of the libraries"),
        ("processor", "another machine"),
    ],
)
def test_a_program_is_not_used_where_anything_it_came_from_is_another(change, words, folder, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="audiodiff.store")
    if change == "code":
        monkeypatch.setattr(store, "_code", lambda: "mended")
    kept = Store(folder, "command")
    state, x = arguments(8 if change == "shape" else 4)
    match change:
        case "given":
            kept.made_of({"learning_rate": 2.0})
        case "dtype":
            x["a"] = x["a"].astype(jnp.bfloat16)
        case "static":
            x["b"] = jax.tree_util.Partial(functools.partial(double, width=3))
        case "place":
            state = jax.device_put(state, jax.devices()[1])
        case "flags":
            monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
        case "library":
            monkeypatch.setattr(store, "_version", lambda library: "99")
        case "processor":
            monkeypatch.setattr(store, "_features", lambda: "none")
    with jax.default_matmul_precision("float32" if change == "setting" else None):
        assert kept.find("double", (state, x)) is None
    assert words in caplog.text


def test_code_that_changes_while_a_process_runs_is_not_what_it_compiled(tmp_path, monkeypatch):
    begun = Store(tmp_path, "command")
    monkeypatch.setattr(store, "_code", lambda: "mended")
    compiled(begun)
    assert Store(tmp_path, "command").find("double", arguments()) is None


def test_the_static_part_of_an_argument_tells_programs_apart_whatever_its_address():
    def argument(width):
        return (jax.tree_util.Partial(functools.partial(double, lambda: None, width=width)),)

    assert store._describe(argument(3)) == store._describe(argument(3)) != store._describe(argument(4))


def test_a_program_of_the_same_text_is_not_compiled_again(folder, monkeypatch):
    monkeypatch.setattr(store, "_code", lambda: "a comment was added")
    kept = Store(folder, "another command")
    lowered = jax.jit(double, donate_argnums=0).lower(*arguments())
    monkeypatch.setattr(type(lowered), "compile", None)
    state = kept.compile("double", arguments(), lowered).run(*arguments())[0]["state"]
    np.testing.assert_array_equal(state, 1 + 2 * np.arange(4))
    assert Store(folder, "another command").find("double", arguments())


def test_a_large_constant_is_part_of_the_text(tmp_path):
    def plus(offset):
        table = np.arange(100_000.0) + offset
        return jax.jit(lambda x: (x + jnp.asarray(table)).sum())

    totals = []
    for offset in (0, 1):
        lowered = plus(offset).lower(jnp.float32(0))
        totals.append(float(Store(tmp_path, offset).compile("plus", (jnp.float32(0),), lowered).run(jnp.float32(0))))
    assert totals[1] - totals[0] == pytest.approx(100_000, rel=1e-2)


@pytest.mark.parametrize("suffix", ["entry", "program"])
@pytest.mark.parametrize("damage", [b"", b"no pickle"])
def test_what_is_damaged_is_made_again(suffix, damage, folder, caplog):
    caplog.set_level(logging.INFO, logger="audiodiff.store")
    (path,) = folder.glob(f"*.{suffix}")
    path.write_bytes(damage or path.read_bytes()[:100])
    kept = Store(folder, "command")
    assert kept.find("double", arguments()) is None and "cannot be used" in caplog.text
    compiled(kept)
    assert Store(folder, "command").find("double", arguments())


def test_the_cache_of_jax_works_on_afterwards(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    try:
        compiled(Store(tmp_path / "store"))
        assert not list((tmp_path / "jax").glob("jit_double*"))  # one copy is enough
        jax.jit(lambda x: x * 3)(jnp.ones(5))
        assert list((tmp_path / "jax").glob("jit__lambda*-cache"))
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        compilation_cache.reset_cache()


def test_what_cannot_be_written_down_is_compiled_all_the_same(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="audiodiff.store")
    program = compiled(Store(tmp_path, "command"), note=lambda lowered, compiled: lambda: None)
    np.testing.assert_array_equal(program.run(*arguments())[0]["state"], 1 + 2 * np.arange(4))
    assert "is not kept" in caplog.text and not list(tmp_path.glob("*.entry"))


def test_the_oldest_files_of_each_kind_go(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "KEEP", 2)
    for name in ("first", "second", "third"):
        compiled(Store(tmp_path, "command"), name=name)
    names = sorted(path.stem.partition("-")[2] for path in tmp_path.glob("*.entry"))
    assert names == ["second", "third"] and len(list(tmp_path.glob("*.program"))) == 1


def test_a_program_over_several_devices_comes_back_with_its_shardings(tmp_path):
    plan = make_strategy("jit", devices=4, batch_size=8)
    split = NamedSharding(plan.mesh, P("data"))
    x = jax.device_put(jnp.arange(8.0), split)
    lowered = jax.jit(lambda x: (x + 1, x.sum()), out_shardings=(split, plan.replicated)).lower(x)
    Store(tmp_path).compile("sum", (x,), lowered)
    plus, total = Store(tmp_path).find("sum", (x,)).run(x)
    np.testing.assert_array_equal(plus, np.arange(8.0) + 1)
    assert plus.sharding == split and float(total) == 28


def test_files_have_a_place_by_what_they_are_made_of(tmp_path, monkeypatch):
    place = Store(tmp_path, "one").place(["data", 1])
    (place / "facts").write_text("measured")
    assert (Store(tmp_path, "another").place(["data", 1]) / "facts").read_text() == "measured"
    assert Store(tmp_path).place(["data", 2]) != place
    monkeypatch.setattr(store, "_code", lambda: "mended")
    assert Store(tmp_path).place(["data", 1]) != place
    assert NOTHING_KEPT.place(["data", 1]) is None
    monkeypatch.setattr(store, "KEEP", 2)
    newest = [Store(tmp_path).place([index]) for index in range(3)][1:]
    assert set(tmp_path.glob("*.files")) == set(newest)
