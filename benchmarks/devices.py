"""The training step over 1, 2, 4 and 8 devices: what one of them computes and holds.

The CPU stands in for several devices (one process for each number, which is fixed when JAX starts): this shows that the
program is divided, and nothing of its speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from measure import Reading, counted

COUNTS = (1, 2, 4, 8)


def step_on(count: int) -> dict[str, float]:
    """Compile a step over ``count`` devices; return FLOPs and temporary bytes of one device."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from scaling import UNET

    from audiodiff.networks.functional import Functional
    from audiodiff.training.optimisers import make_optimiser
    from audiodiff.training.parallel import make_strategy
    from audiodiff.training.state import init_state
    from audiodiff.training.step import Constants, make_step

    network = Functional(UNET)
    batch: dict[str, Any] = {
        "audio": np.zeros((16, 4096, 1), np.float32),
        "weight": np.ones(16, np.float32),
        "draw": np.arange(16),
    }

    def objective(params, context, batch):
        y = network(params, batch["audio"], batch["weight"], {})
        return jnp.mean(jnp.square(y - 1), axis=(1, 2)), {}

    optimiser = make_optimiser("adamw", learning_rate=1e-3)
    strategy = make_strategy("jit", devices=count, batch_size=16)

    def make():
        return init_state(network.init(jax.random.key(0), batch["audio"], {}), optimiser.transform, {})

    template = strategy.template(jax.eval_shape(make))
    constants = strategy.place_constants(Constants(jax.tree_util.Partial(objective), jax.random.key(0)))
    step = strategy.compile(make_step(optimiser), template)
    compiled = step.lower(template, strategy.place_batch(batch), constants).compile()
    return {"flops": compiled.cost_analysis()["flops"], "bytes": compiled.memory_analysis().temp_size_in_bytes}


def measure(rounds: int) -> list[Reading]:
    """Compare the program of one device among several with that of one alone."""
    found = {}
    for count in COUNTS:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            [sys.executable, __file__, str(count)], env=environment, check=True, stdout=subprocess.PIPE
        )
        found[count] = json.loads(done.stdout)
    readings = []
    for count in COUNTS[1:]:
        # Parameters are on every device, and so are their gradients: memory is not divided as work is.
        for what, unit, most in (("flops", "work", 1.1 / count), ("bytes", "memory", 1 / count + 0.08)):
            share = counted(f"one of {count} devices: its share of {unit}", found[count][what] / found[1][what], "x")
            readings.append(Reading(share, "count", at_most=most, more_is_better=False))
    return readings


if __name__ == "__main__":
    print(json.dumps(step_on(int(sys.argv[1]))))
