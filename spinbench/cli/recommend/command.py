"""What `spinbench recommend` does: search in simulation, what-if cases, confirmation on real models, the answer."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from spinbench.cli.hydra_app.app import Point
from spinbench.cli.out_folder import require_empty
from spinbench.cli.recommend.answer import write_answer
from spinbench.cli.recommend.confirm import CONFIRM_FOLDER, check_confirmation, run_confirmation
from spinbench.cli.recommend.points import POINTS_FOLDER, Simulations
from spinbench.cli.recommend.question import Question, ask
from spinbench.cli.recommend.search import Gains, search
from spinbench.cli.recommend.what_if import what_if
from spinbench.cli.replay.command import Replay
from spinbench.sweep.folder import SweepFolder


class Recommend:
    """The command, with what its points share."""

    def __init__(self) -> None:
        self._replay = Replay()
        self._questions: dict[Path, Question] = {}

    def check(self, point: Point) -> None:
        """Raise UserError for what is wrong with config, folder, files or any set-up; loads no model."""
        if not SweepFolder(point.folder / POINTS_FOLDER).exists():  # an interrupted search goes on
            require_empty(point.folder)
        question = ask(point, self._replay)
        check_confirmation(question)
        self._questions[point.folder] = question

    def run(self, point: Point) -> None:
        """Leave the answer in the point's folder. Raises UserError, and KeyboardInterrupt on Ctrl-C."""
        question = self._questions[point.folder]
        console = Console()

        def tell(text: str) -> None:
            console.print(escape(text), highlight=False, soft_wrap=True)

        simulations = Simulations(question, self._replay)
        found = search(question, simulations, tell)
        tell(f"best of {len(question.set_ups)} in simulation: {found.best.set_up.name}")
        cases = what_if(question, found, simulations)
        reason = check_confirmation(question)
        runs = None
        if reason is None:
            count, repeats = len(found.confirmed), question.config.repeats
            tell(f"{count} set-ups on real models, {repeats} times in turns (in {question.folder / CONFIRM_FOLDER})")
            runs = run_confirmation(question, found, self._replay)
        page, sentences = write_answer(question, found, Gains(question), cases, runs, reason)
        for sentence in sentences:
            tell(sentence)
        tell(f"answer in {page}")
