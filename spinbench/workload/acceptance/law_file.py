"""A synthetic law as a YAML file, its rates written out or taken from speculation profiles."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spinbench.checked_file import error_in, read_yaml
from spinbench.errors import UserError
from spinbench.workload.acceptance.synthetic import DifficultyClass, LookupLaw, Rates, SyntheticLaw
from spinbench.workload.speculation_profile import read_speculation_profile

Rate = Annotated[float, Field(ge=0, le=1)]
PerOrder = Annotated[list[Rate], Field(min_length=3, max_length=3)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _LookupSection(_Section):
    match_probability: PerOrder
    acceptance_rates: PerOrder


class _ClassSection(_Section):
    name: str
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    acceptance_rates: dict[str, Annotated[list[Rate], Field(min_length=1)] | str] = {}
    lookup: _LookupSection | None = None


class _LawSection(_Section):
    coupling: Rate = 0.0
    classes: Annotated[list[_ClassSection], Field(min_length=1)]


def read_law(path: Path) -> SyntheticLaw:
    """The law that a YAML file states.

    Its keys are those of `SyntheticLaw`, `DifficultyClass` and `LookupLaw`. Instead of a list, a drafter's rates may be
    the path, from the file's folder, of a speculation_profile.json: its *conditional* rates then, of which the last
    goes on beyond the K that was measured. Raises UserError naming file and key.
    """
    raw = read_yaml(path, f"{path}: no such file; it would state a synthetic law in YAML")
    try:
        section = _LawSection.model_validate(raw)
    except ValidationError as error:
        raise error_in(path, error) from None
    rates = [_rates(path.parent, entry) for entry in section.classes]
    try:
        return SyntheticLaw(tuple(map(_class, section.classes, rates)), section.coupling)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _rates(folder: Path, section: _ClassSection) -> dict[str, Rates]:
    return {
        name: tuple(given) if isinstance(given, list) else _measured(folder / given)
        for name, given in section.acceptance_rates.items()
    }


def _class(section: _ClassSection, rates: dict[str, Rates]) -> DifficultyClass:
    lookup = LookupLaw()
    if section.lookup is not None:
        lookup = LookupLaw(tuple(section.lookup.match_probability), tuple(section.lookup.acceptance_rates))
    return DifficultyClass(section.name, section.weight, rates, lookup)


def _measured(path: Path) -> Rates:
    return read_speculation_profile(path).conditional_accept_rates
