"""The command line of pack_model.py: a subcommand per engine, with the engine's own options, and `check`.

    pack_model.py openvino --checkpoint DIR_OR_HF_ID [--precision int4] …
    pack_model.py tensorrt --checkpoint DIR_OR_HF_ID [--preset latency] …
    pack_model.py check TAG

The older form, `--engine openvino --checkpoint …` and `--check TAG`, still works.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, BaseModel, Field, ValidationError, create_model
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSettingsSource,
    CliSubCommand,
    CliToggleFlag,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    get_subcommand,
)
from pydantic_settings import SettingsError as ParsingError

from bento_trtllm.engines import ENGINES, options_of
from bento_trtllm.errors import SettingsError

if TYPE_CHECKING:
    from bento_trtllm.checkpoint.change import Change
    from bento_trtllm.checkpoint.checkpoint import Checkpoint

CHECK = "check"
VALUES = {
    "str": "NAME",
    "int": "N",
    "list[str]": "NAME=DIR",
    "--checkpoint": "DIR_OR_HF_ID",
    "--merge-lora": "DIR",
    "--calibration-dataset": "NAME_OR_DIR",
}
"""Names of values in --help, by type or by option."""


class Packing(BaseModel):
    """What every engine's subcommand takes."""

    checkpoint: str = Field(description="A directory, or a Hugging Face id.")
    revision: str | None = Field(None, description="The branch, tag or commit of a Hugging Face id.")
    tag: str | None = Field(
        None, description="Name or name:version in the store; without a version or a tag, a new version is made."
    )
    merge_lora: str | None = Field(None, description="A LoRA adapter's directory: add it to the weights for good.")
    force: CliToggleFlag[bool] = Field(False, description="Replace a model with the same tag.")
    dry_run: CliToggleFlag[bool] = Field(
        False, description="Check everything, print the plan as JSON, and pack nothing."
    )

    def change(self, checkpoint: "Checkpoint") -> "Change | None":
        """What is to become of the checkpoint before it is packed. Raises CheckpointError where that cannot be."""
        # Imported late so that --help answers at once.
        from bento_trtllm.checkpoint.merge import Merge  # noqa: PLC0415

        return Merge.read(self.merge_lora, checkpoint) if self.merge_lora else None


class Checking(BaseModel):
    """Compare every byte of a pack with what was packed."""

    tag: CliPositionalArg[str] = Field(description="The pack's tag.")


class _Program(BaseSettings):
    model_config = SettingsConfigDict(
        cli_prog_name="pack_model.py",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_parse_none_str="left out",  # shown as a default; no tag, revision or GPU has this name
        cli_exit_on_error=False,
        protected_namespaces=(),
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the command line, which pydantic-settings puts before these: environment variables are not options."""
        return (init_settings,)


@dataclass(frozen=True)
class Command:
    """What to do: pack for `engine` with those `options` that were given, or check a tag."""

    packing: Packing | None = None
    engine: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    check: str = ""


def parse(arguments: Sequence[str]) -> Command:
    """Parse the arguments. Raises SettingsError, in one sentence, and SystemExit after --help."""
    arguments = _modern(arguments)
    name = next(iter(arguments), "")
    try:
        program = _program()
        source = CliSettingsSource[Any](program, cli_parse_args=arguments, add_argument_method=_add)
        command = get_subcommand(program(_cli_settings_source=source), is_required=False)
    except ParsingError as error:
        raise SettingsError(_explain(str(error).removeprefix("error parsing CLI: "), name)) from error
    except ValidationError as error:
        first = error.errors()[0]
        option = _option(str(first["loc"][-1]))
        if first["type"] == "missing":
            raise SettingsError(f"packing needs --{option}") from error
        what = first["msg"]
        raise SettingsError(f"--{option} {first['input']} cannot be used: {what[:1].lower()}{what[1:]}") from error
    if isinstance(command, Checking):
        return Command(check=command.tag)
    if not isinstance(command, Packing):
        raise SettingsError(
            f"say what to pack for: pack_model.py {' or '.join(ENGINES)} --checkpoint DIR_OR_HF_ID, or check TAG to "
            "check a pack"
        )
    given = command.model_fields_set & options_of(name).model_fields.keys()
    packing = Packing.model_validate(command.model_dump(include=set(Packing.model_fields)))
    return Command(packing, name, {option: getattr(command, option) for option in sorted(given)})


def _program() -> type[_Program]:
    """Each engine's options, as plain fields: the engine itself checks which go together."""
    engines: dict[str, Any] = {}
    subcommand: Any = CliSubCommand
    for name in ENGINES:
        options = options_of(name)
        fields: dict[str, Any] = {each: (info.annotation, info) for each, info in options.model_fields.items()}
        command = create_model(f"Pack for {name}", __base__=Packing, __doc__=options.__doc__, **fields)
        engines[name] = (subcommand[command], Field(description=options.__doc__))
    engines[CHECK] = (subcommand[Checking], Field(description=Checking.__doc__))
    return create_model(
        "Program", __base__=_Program, __doc__="Pack a Hugging Face checkpoint into the BentoML model store.", **engines
    )


def _add(container: argparse.ArgumentParser, *flags: str, **keywords: Any) -> argparse.Action:
    """Add an option, and name its value after its meaning rather than its Python type."""
    if (kind := keywords.get("metavar")) in VALUES:
        keywords["metavar"] = VALUES.get(flags[0], VALUES[kind])
    return container.add_argument(*flags, **keywords)


def _modern(arguments: Sequence[str]) -> list[str]:
    """Put the subcommand first if it is given as `--engine NAME` or `--check TAG`."""
    rest, given = [], {}
    words = iter(arguments)
    for word in words:
        option, _, value = word.partition("=")
        if option in ("--engine", "--check"):
            given[option] = value or next(words, "")
        else:
            rest.append(word)
    if "--check" in given:
        others = [word.partition("=")[0] for word in rest if word.startswith("--checkpoint")]
        if odd := [option for option in given if option == "--engine"] + others:
            raise SettingsError(f"--check takes the tag of a pack, and no {odd[0]}")
        return [CHECK, given["--check"], *rest]
    return [given["--engine"], *rest] if "--engine" in given else rest


def _explain(message: str, name: str) -> str:
    """argparse's message; for another engine's option, a sentence that says which engine has it."""
    if found := re.match(r"unrecognized arguments: --([a-z-]+)", message):
        for other in ENGINES:
            if other != name and found[1] in _options(options_of(other)):
                return f"--{found[1]} is for {other}: leave it out with {name}"
    return message


def _options(model: type[BaseModel]) -> set[str]:
    """The names of a model's fields as options."""
    aliases = [info.validation_alias for info in model.model_fields.values()]
    others = [name for each in aliases if isinstance(each, AliasChoices) for name in each.choices]
    return {_option(name) for name in (*model.model_fields, *others) if isinstance(name, str)}


def _option(name: str) -> str:
    return name.replace("_", "-")
