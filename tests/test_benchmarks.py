"""What the benchmarks compare can be run as it is written: keys move, and nobody runs them every day."""

from hydra import initialize_config_dir

from benchmarks import joint, regret_runs
from benchmarks.simulations import Simulations
from spinbench.cli.engine.simulated import SimulatedEngine
from spinbench.cli.locations import shipped_folder


def test_every_selector_with_regret_is_a_valid_choice() -> None:
    methods = regret_runs.all_methods()
    assert {"plain", "spin", "joint, K by selector", "fixed prompt_lookup"} <= set(methods)
    engine = SimulatedEngine()
    with initialize_config_dir(str(shipped_folder("conf")), version_base="1.3"):
        for name, overrides in methods.items():
            engine.check(regret_runs.config_of(regret_runs.Task(name, tuple(overrides), 8, 0), num_prompts=4))


def test_everything_beside_joint_is_a_valid_choice() -> None:
    simulations, engine = Simulations(), SimulatedEngine()
    drafters = list(simulations.config(*joint.PLAIN).models.drafters)
    methods = [*joint.fixed_methods(drafters)[:: len(joint.FIXED_LENGTHS)], *joint.other_methods(drafters)]
    assert len({method.name for method in methods}) == len(methods) > len(drafters)
    for method in methods:
        engine.check(simulations.config(*method.overrides))
