"""Settings as command-line flags: each by its own name and, where there are any, by official ones."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
from msgspec.structs import FieldInfo

from resonate_server import official
from resonate_server.config import BETWEEN_LEVELS, SETTINGS, flat
from resonate_server.official import Given


class Serving(click.Command):
    """A command that explains why it rejects a flag of the official server."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if reason := official.refusal(error.option_name):
                raise click.UsageError(f"{error.option_name}: {reason}", ctx) from None
            raise


def flags() -> Iterator[click.Option]:
    """Yield the options for all settings."""
    file = click.Path(path_type=Path)
    yield click.Option(["--config"], type=file, help="File with settings [default: ./resonate.toml].")
    yield click.Option(
        ["assigned", "--set"],
        multiple=True,
        metavar="NAME=VALUE",
        help="Any setting, in TOML. Others can read arguments: secrets belong in variables, or in the file.",
    )
    for name, spellings in _spellings().items():
        field = SETTINGS.get(name)
        yield click.Option(
            [name.replace(".", BETWEEN_LEVELS), *spellings],
            type=_type(field.type if field else str),
            is_flag=name == "debug",
            default=None,
            multiple=name == "server.cors.allow_origins",
            help=_help(field) if field else "",
            hidden=field is None,  # It has no effect.
        )


def _help(field: FieldInfo) -> str:
    meaning: str = get_args(field.type)[-1]
    return meaning if field.default in ("", msgspec.NODEFAULT) else f"{meaning} [default: {field.default}]"


def _spellings() -> dict[str, list[str]]:
    """Return the flags of each setting but the shared secret: others can read a process's arguments."""
    names = [name for name in (*SETTINGS, *official.WITHOUT_EFFECT) if name != "auth.token"]
    spellings = {name: ["--" + name.replace(".", "-").replace("_", "-")] for name in names}
    for flag, name in official.FLAGS.items():
        spellings.setdefault(name, []).append(flag)
    return spellings


def _type(kind: Any) -> click.ParamType[Any]:
    match msgspec.inspect.type_info(kind):
        case msgspec.inspect.LiteralType(values=values):
            return click.Choice([str(value) for value in values])
        case msgspec.inspect.IntType(ge=least, le=most):
            return click.IntRange(least, most)
        case msgspec.inspect.BoolType():
            return click.BOOL
    return click.STRING


def given(values: dict[str, Any], assigned: tuple[str, ...]) -> Given:
    """Return the settings given by flags (``None`` or an empty tuple: not given) and by ``--set``."""
    return _assigned(assigned) | {
        name.replace(BETWEEN_LEVELS, "."): list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value not in (None, ())
    }


def _assigned(texts: tuple[str, ...]) -> Given:
    """Decode values as TOML; any other text stays as it is."""
    given: Given = {}
    for text in texts:
        name, is_given, value = text.partition("=")
        if not is_given:
            raise click.UsageError(f"--set {name} has no value: write it like --set NAME=VALUE")
        try:
            given |= flat({name.strip(): tomllib.loads(f"value = {value}")["value"]})
        except tomllib.TOMLDecodeError:
            given[name.strip()] = value
    return given
