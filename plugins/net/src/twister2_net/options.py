"""Comparing what an operator was given with what it declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.errors import OperatorError
from twister2.spec.tracebacks import short
from twister2_net.problems import wrong_option

if TYPE_CHECKING:
    from twister2.spec.ops import OperatorContext, OperatorInfo


def check_options(info: OperatorInfo, context: OperatorContext) -> None:
    """Compare what an operator was given with what it declares.

    :raises OperatorError: unknown or missing options, text for True or False, a mode it does not do, no tasks, several
        targets where there can be one.
    """
    label = f"{info.name} '{context.label}'" if context.label else info.name
    unknown = [name for name in context.options if name not in info.options]
    missing = [name for name, option in info.options.items() if option.required and name not in context.options]
    if unknown:
        raise OperatorError(
            f"{label} has no option {', '.join(map(repr, unknown))}",
            why=f"its options are {', '.join(info.options) or 'none'}",
            remedy=near(unknown[0], list(info.options)) or "leave it out",
        )
    if missing:
        raise OperatorError(
            f"{label} needs the option {', '.join(map(repr, missing))}",
            why="; ".join(f"{name}: {info.options[name].help}" for name in missing),
            remedy="give it with the operator, or where the edge is connected",
        )
    for name, option in info.options.items():
        if isinstance(option.default, bool) and isinstance(context.options.get(name), str):
            raise wrong_option(label, name, f"{short(context.options[name])} is text", "give True or False")
    if context.mode not in info.modes:
        raise OperatorError(
            f"{label} does not run in {context.mode} mode",
            why=f"it declares {', '.join(sorted(info.modes))}",
            remedy=f"give mode='{min(info.modes)}', to the operator or the graph that it is in",
        )
    if context.inputs and (sum(context.inputs) != len(context.sources) or info.inputs not in (0, len(context.inputs))):
        raise OperatorError(
            f"{label} was given {len(context.inputs)} inputs of {list(context.inputs)} sources",
            why=f"it takes {info.inputs or 'any number of'} inputs, and there are {len(context.sources)} sources",
            remedy="say how many source tasks each input has",
        )
    if not context.sources or not context.targets:
        raise OperatorError(
            f"{label} joins {len(context.sources)} sources to {len(context.targets)} targets",
            why="both sides need at least one task",
            remedy="give both vertices a parallelism of at least 1",
        )
    if info.shape == "many_to_one" and len(context.targets) != 1:
        raise OperatorError(
            f"{label} has {len(context.targets)} targets",
            why=f"{info.name} brings everything to one task",
            remedy=f"give the target a parallelism of 1, or use all{info.name}",
        )


def near(name: str, names: list[str]) -> str:
    """The name that was likely meant, as a question; empty when none is like it."""
    from difflib import get_close_matches

    found = get_close_matches(name, names, 1)
    return f"did you mean '{found[0]}'?" if found else ""
