"""Arguments of the commands that are no Hydra apps."""

import argparse
from typing import NoReturn

from spinbench.errors import UserError


class OneLineParser(argparse.ArgumentParser):
    """Raises UserError for what it cannot read, where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        """One line that says where to look."""
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")
