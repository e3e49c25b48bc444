"""Write the reference pages that come from the code: interfaces, errors, options, contracts.

Run by ``conf.py`` at every build.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

from reference_pages import graph_page, operators_page, program_page, tset_page

from twister2.cli.main import EXIT_CODES, exit_code
from twister2.config import JobConfig
from twister2.config.describe import describe
from twister2.host import PluginHost
from twister2.host.checks import backend_class, hook_arguments, spec_class, spec_hooks
from twister2.spec.errors import PluginError, error_codes
from twister2.spec.plugin import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TARGET = Path(__file__).parent / "reference" / "generated"
_ROLE = re.compile(r":[a-z]+:`~?([^`<]*)`")


def _text(documented: object) -> str:
    """A docstring as Markdown: roles become code, double backquotes single ones."""
    text = inspect.getdoc(documented) or ""
    text = _ROLE.sub(lambda match: f"`{match.group(1).rpartition('.')[2]}`", text).replace("``", "`")
    return re.sub(r"^:(param|raises|returns|ivar|cvar)\b ?([^:]*):", r"* **\2** (\1):", text, flags=re.MULTILINE)


def _summary(documented: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(_text(documented).partition("\n\n")[0].split())


def _paragraphs(text: str) -> str:
    """Every field of a docstring on a line of its own list, after an empty line."""
    return re.sub(r"(?<!\n)\n\* \*\*", "\n\n* **", text, count=1)


def errors_page() -> str:
    """All errors by code."""
    parts = [
        "# Errors",
        "Every error that this system raises on purpose has a code, says what happened, where and why, and what to do "
        "about it:",
        "```text\n[T2-P101] no rm plugin (resource manager) is called 'slrum'\n"
        "  where:   job.rm [file twister2.toml]; host login1, interpreter /opt/venv/bin/python\n"
        "  because: installed here are: slurm, standalone; the nearest name is 'slurm'\n"
        "  try:     use 'slurm', or install the plugin: /opt/venv/bin/python -m pip install twister2-rm-slrum\n```",
        "They derive from `twister2.Twister2Error`. The exit code is that of the `twister2` command.",
        "| code | class | exit code | meaning |\n| --- | --- | --- | --- |\n"
        + "\n".join(
            f"| {code} | `{cls.__name__}` | {exit_code(cls('', why='', remedy=''))} | {_summary(cls)} |"
            for code, cls in error_codes().items()
        ),
        "## Exit codes",
        "| code | meaning |\n| --- | --- |\n" + "\n".join(f"| {code} | {text} |" for code, text in EXIT_CODES.items()),
    ]
    return "\n\n".join(parts) + "\n"


def options_page() -> str:
    """Options of the job and of every installed plugin."""
    parts = ["# Options", "What `[job]` and the tables of the installed plugins hold, with their defaults."]
    parts += _options("job", JobConfig)
    host = PluginHost()
    for kind in KINDS:
        for name in sorted({record.name for record in host.discover(kind)}):
            try:
                parts += _options(f"{kind}.{name}", host.load(kind, name).config_class)
            except PluginError as error:
                raise SystemExit(str(error)) from error
    return "\n\n".join(parts) + "\n"


def _options(path: str, options: type) -> Iterator[str]:
    rows = [
        f"| `{option.path.removeprefix(path + '.')}` | {option.type}{f' ({option.unit})' if option.unit else ''} "
        f"| `{option.default}` | {option.help.replace('|', chr(92) + '|')} |"
        for option in describe(options, path)
    ]
    if rows:
        yield f"## `[{path}]`"
        yield "| option | type | default | meaning |\n| --- | --- | --- | --- |\n" + "\n".join(rows)


def contracts_page() -> str:
    """Hooks and backend methods of every kind, with what their contracts say."""
    parts = ["# Contracts", "Generated from `twister2.spec`: what a plugin of each kind implements."]
    for kind in KINDS.values():
        spec = spec_class(kind)
        parts += [f"## `{kind.name}`: {kind.summary}", _text(importlib.import_module(spec.__module__))]
        parts.append(
            f"Entry-point group `{kind.group}`, base class `{spec.__module__}.{spec.__name__}`, "
            f"interface version {kind.api[0]}.{kind.api[1]}."
        )
        for name, hook in spec_hooks(spec).items():
            required = "required" if name in kind.required else "optional"
            parts.append(f"### `{name}({', '.join(hook_arguments(hook))})`")
            parts += [f"Hook, {required}.", _paragraphs(_text(hook))]
        if kind.required:
            backend = backend_class(spec, kind.required[0])
            parts.append(f"### Backend `{backend.__name__}`")
            parts.append(_paragraphs(_text(backend)))
            for name, member in vars(backend).items():
                function = member.fget if isinstance(member, property) else member
                if inspect.isfunction(function) and not name.startswith("_"):
                    parts.append(f"#### `{name}{inspect.signature(function)}`".replace("'", ""))
                    parts.append(_paragraphs(_text(function)))
    return "\n\n".join(filter(None, parts)) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": errors_page,
    "options.md": options_page,
    "contracts.md": contracts_page,
    "tset.md": tset_page,
    "taskgraph.md": graph_page,
    "operators.md": operators_page,
    "program.md": program_page,
}


def main() -> None:
    """Write all pages; a file that would not change is left alone, so that Sphinx does not read it again."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        path, text = TARGET / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
