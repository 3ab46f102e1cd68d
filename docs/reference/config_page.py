"""docs/config.md: every command and config group with its keys; types from the schemas, the rest from conf/."""

from importlib import import_module
from pathlib import Path

from pydantic import BaseModel

from docs.reference.markdown import MADE, code, table
from docs.reference.types import parameter_types, section_types
from docs.reference.yaml_keys import ConfigFile, Key, read_config_file
from spinbench.cli.locations import shipped_folder

SCHEMAS = {
    "replay": "spinbench.cli.config.replay.ReplayConfig",
    "record": "spinbench.cli.record.config.RecordConfig",
    "profile": "spinbench.cli.profile.config.ProfileConfig",
    "validate": "spinbench.cli.validate.command.ValidateConfig",
    "recommend": "spinbench.cli.recommend.config.RecommendConfig",
    "capacity": "spinbench.cli.capacity.config.CapacityConfig",
    "distill": "spinbench.cli.distill.command.DistillCommandConfig",
}
"""What the config of each command must be, by its dotted name."""

INTRODUCTION = """\
# Config

`spinbench COMMAND group=choice key=value ...`. A group's choice brings its keys: `selector=spin` has
`selector.rounds_per_slot`. Lists are written `[a,b]` (quote them in a shell), `null` is nothing, and in a sweep (`-m`)
commas separate values. `spinbench COMMAND --cfg job` shows what a command would run with, `--info defaults` where each
part comes from. Unknown keys, wrong types and values out of range are refused before anything starts; every point of a
sweep is checked first.

A folder of your own with more choices: [`--config-dir`](extend.md).
"""


def config_page() -> str:
    """The page. Raises KeyError for a key of conf/ that no schema has."""
    conf = shipped_folder("conf")
    parts = [MADE, "", INTRODUCTION, "## Commands\n"]
    schemas = {name: _schema(target) for name, target in SCHEMAS.items() if (conf / f"{name}.yaml").is_file()}
    for command, schema in schemas.items():
        parts.extend(_command(conf, command, schema))
    parts.append("## Groups\n")
    for folder in sorted(path for path in conf.iterdir() if path.is_dir() and path.name != "experiment"):
        schema = next(one for one in schemas.values() if folder.name in one.model_fields)
        parts.extend(_group(folder, schema))
    parts.append("### experiment\n")
    parts.append("Ready-made sets of overrides, `experiment=NAME`.\n")
    files = {path.stem: read_config_file(path) for path in sorted((conf / "experiment").glob("*.yaml"))}
    parts.append(table(("choice", "what"), [[code(name), file.about] for name, file in files.items()]))
    return "\n".join(parts)


def _schema(target: str) -> type[BaseModel]:
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def _command(conf: Path, command: str, schema: type[BaseModel]) -> list[str]:
    file = read_config_file(conf / f"{command}.yaml")
    types = section_types(schema)
    keys = [key for key in file.keys if key.name in types]
    groups = _groups_of(conf / f"{command}.yaml")
    listed = ", ".join(f"[{name}](#{name})" for name in groups)
    return [f"### spinbench {command}\n", f"{file.about}\n", f"Groups: {listed}.\n", _keys(keys, types, "")]


def _groups_of(path: Path) -> list[str]:
    """The groups in a command's defaults list."""
    lines = path.read_text(encoding="utf-8").splitlines()
    names = [line.strip("- ").partition(":")[0].partition("@")[0] for line in lines if line.startswith("  - ")]
    return list(dict.fromkeys(name for name in names if (path.parent / name).is_dir()))


def _group(folder: Path, schema: type[BaseModel]) -> list[str]:
    group = folder.name
    files = {path.stem: read_config_file(path) for path in sorted(folder.glob("*.yaml"))}
    parts = [f"### {group}\n", table(("choice", "what"), [[code(name), file.about] for name, file in files.items()])]
    shown: list[str] = []
    for name, file in files.items():
        keys, target = _with_bases(files, file), _target(files, file)
        if target:
            text = _keys(keys, parameter_types(target), "")
        else:
            kind = next((key.value for key in keys if key.name == "kind"), "")
            text = _keys(keys, section_types(schema, {group: kind}), f"{group}.")
        if file.keys and _without_values(text) not in shown:
            shown.append(_without_values(text))
            parts.append(f"`{group}={name}`:\n" if len(files) > 1 else "")
            parts.append(text)
    return [part for part in parts if part]


def _target(files: dict[str, ConfigFile], file: ConfigFile) -> str:
    found = [one.target for one in (file, *(files[base] for base in file.bases if base in files)) if one.target]
    return found[0] if found else ""


def _with_bases(files: dict[str, ConfigFile], file: ConfigFile) -> list[Key]:
    inherited = {key.name: key for base in file.bases if base in files for key in files[base].keys}
    return list((inherited | {key.name: key for key in file.keys}).values())


def _without_values(text: str) -> str:
    """A table of keys without its column of values: choices that differ in nothing else share one."""
    return "\n".join("|".join(line.split(" | ")[:2] + line.split(" | ")[3:]) for line in text.splitlines())


def _keys(keys: list[Key], types: dict[str, str], prefix: str) -> str:
    rows = [[code(key.name), types[prefix + key.name], code(key.value), key.meaning] for key in keys]
    return table(("key", "type and range", "value", "meaning"), rows)
