"""Simulated runs of configs that a benchmark writes itself."""

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from spinbench.cli.config.replay import ReplayConfig, parse_config
from spinbench.cli.engine.simulated import SimulatedEngine
from spinbench.cli.locations import shipped_folder
from spinbench.control.records.run_record import RunRecord


class Simulations:
    """Runs configs; what they share is read once."""

    def __init__(self) -> None:
        OmegaConf.register_new_resolver("folder_name", str, replace=True)
        self._engine = SimulatedEngine()

    def config(self, *overrides: str) -> ReplayConfig:
        """A replay in simulation with all requests at once."""
        with initialize_config_dir(str(shipped_folder("conf")), version_base="1.3"):
            composed = compose("replay", overrides=["engine=simulation", "arrivals=all_at_once", *overrides])
        return parse_config(composed, ReplayConfig)

    def run(self, config: ReplayConfig) -> tuple[RunRecord, float | None]:
        """What happened, and the share of the oracle's goodput if the config asks for it."""
        with self._engine.session(config) as session:
            record = session.make_loop(None, lambda body: body).run()
            judged = session.judge(record).get("oracle", {})
        return record, judged.get("share_of_oracle")
