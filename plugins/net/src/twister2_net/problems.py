"""Errors of operators, said once: wrong use, wrong records, and user functions that raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.errors import KeyHashError, OperatorError, SerializationError, Twister2Error
from twister2.spec.tracebacks import short, user_line
from twister2.spec.user_code import function_raised

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def user_error(error: Exception, role: str, label: str, task: int, record: Any) -> Twister2Error:
    """A user function raised: an error that names the edge, the task and the record."""
    if isinstance(error, Twister2Error):
        return error
    place = label if task < 0 else f"{label}, task {task}"
    details = {"operator": label, "partition": task, "record": short(record)}
    raised = function_raised(f"the {role} of {label}", error, short(record), place=place, details=details)
    raised.__cause__ = error
    return raised


def not_compared(error: Exception, label: str, role: str = "order of keys") -> Twister2Error:
    """Keys could not be compared, by themselves or by a user function: an error that says so."""
    if isinstance(error, Twister2Error):
        return error
    compares = role == "comparator"
    if not user_line(error) or (isinstance(error, TypeError) and not compares):
        return no_order(label, error)  # nothing of the user's ran: the comparison of the values failed, as of arrays
    raised = user_error(error, role, label, -1, None)
    raised.why = "it was given two keys to compare"
    del raised.details["record"]
    return raised


def no_order(label: str, error: Exception) -> OperatorError:
    """Keys that cannot be compared with each other."""
    operator = label.partition(" ")[0]
    by = "order=str" if operator in ("keyed_gather", "join", "co_group") else "key=str"
    remedy = (
        f"order them by a function whose results can be compared, such as str: {by}; or make the keys of one type first"
    )
    if operator == "join":
        remedy += "; or use algorithm='hash', which compares none"
    if "truth value of an array" in str(error):
        remedy = (
            "in a list or an iterable each array is one record: give a key function, one array instead of several, "
        )
        remedy += "or the arrays one after the other to put() of twister2_net.operator()"
    raised = OperatorError(
        f"{label}: two records cannot be compared: {error}",
        why="their keys are of types that have no order",
        remedy=remedy,
        where=label,
        details={"operator": label, "error": short(error)},
    )
    raised.__cause__ = error
    return raised


def no_pair(label: str, task: int, record: Any) -> OperatorError:
    """A keyed operator was given something that is no pair."""
    remedy = "map the records to tuples (key, value) first"
    if label.partition(" ")[0] == "join":
        remedy += '; rows are joined by the names of columns: on="name" of sets, left_key and right_key of the operator'
    return OperatorError(
        f"{label} takes (key, value) pairs, and was given {short(record)}",
        why=f"a record of type {type(record).__name__} is no pair",
        remedy=remedy,
        where=f"{label}, task {task}",
        details={"operator": label, "partition": task, "record": short(record)},
    )


def mixed_forms(label: str, task: int, given: str, held: str) -> OperatorError:
    """Columns and records came to one target of an operator that keeps them as they are.

    :param given: the form of what came now. :param held: that of what is there.
    """
    return OperatorError(
        f"{label} was given {given} where it has {held}",
        why="its sources sent different forms of batches",
        remedy="send lists, numpy arrays or Arrow batches from all sources, not some of each; of sets (a union, "
        "the sides of a join) make records of all before this step: .map(dict) of rows, .map(float) of numbers, "
        '.map(lambda row: (row["key"], row["value"])) of pairs',
        where=f"{label}, task {task}",
        details={"operator": label, "partition": task},
    )


def different_columns(label: str, forms: Iterable[str]) -> OperatorError:
    """Batches that cannot become one. :param forms: their columns."""
    return OperatorError(
        f"{label} was given batches of different columns",
        why=" and ".join(sorted(set(forms))),
        remedy="send batches of one dtype, or of one schema, from all sources; of sets that meet, select(...) the same "
        "columns of each, or give each with_schema(...), before this step",
        where=label,
    )


def not_one_each(label: str, task: int, partitioner: Any, targets: int, records: int) -> OperatorError:
    """There are more or fewer targets than records."""
    name = repr(partitioner) if isinstance(partitioner, str) else "of the program"
    return OperatorError(
        f"the partitioner {name} of {label} gave {targets:,} targets for {records:,} records",
        why="each record has one target: what chose them changed the batch, or is wrong",
        remedy="leave the batch as it is in the functions that partitioner and key name",
        where=f"{label}, task {task}",
        details={"operator": label, "partition": task},
    )


def no_hash(label: str, task: int, key: Any, error: Exception) -> KeyHashError:
    """A key that cannot be hashed."""
    raised = KeyHashError(
        f"{short(key)} cannot be a key in {label}",
        why=str(error) or type(error).__name__,
        remedy="use a number, str, bytes or a tuple of these as key",
        where=f"{label}, task {task}",
        details={"operator": label, "partition": task, "record": short(key)},
    )
    raised.__cause__ = error
    return raised


def not_sent(error: SerializationError, label: str, task: int) -> SerializationError:
    """A record cannot be encoded: the same error, which names the edge and the task too (-1: several tasks')."""
    if "operator" not in error.details:
        place = label if task < 0 else f"{label}, task {task}"
        error.where = f"{place}, {error.where}" if error.where else place
        error.details |= {"operator": label, "partition": task}
    return error


def wrong_option(label: str, name: str, why: str, remedy: str) -> OperatorError:
    """An option that cannot be."""
    return OperatorError(f"option '{name}' of {label} is wrong", why=why, remedy=remedy, where=label)


def no_column(label: str, unknown: Sequence[str], names: Sequence[str]) -> OperatorError:
    """Key columns that a batch with these columns has not."""
    return OperatorError(
        f"{label} has no column {', '.join(map(repr, unknown))} to take keys from",
        why=f"the batch has the columns {', '.join(names)}",
        remedy="name key columns that all batches have",
        where=label,
    )
