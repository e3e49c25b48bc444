"""A batch of lines that is split only when somebody asks for the lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, overload


class TextLines(Sequence[str]):
    r"""The lines of a decoded block of text; equal in all respects to ``text_block.split("\n")``, but lazy.

    Immutable and picklable (one string travels, not its lines). :func:`twister2.spec.batch.text_block` hands the block
    to whoever can do without the lines.

    :param text: lines joined by ``"\n"``, without one after the last line. The empty text is one empty line.
    :param nbytes: size of the encoded text. :param count: number of lines if known, else they are counted on demand.
    """

    __slots__ = ("_count", "_lines", "nbytes", "text_block")
    __t2_records__: ClassVar[type] = str

    def __init__(self, text: str, nbytes: int, count: int = -1) -> None:
        self.text_block = text
        self.nbytes = nbytes
        self._count = count
        self._lines: list[str] | None = None

    @property
    def lines(self) -> list[str]:
        """The lines; split at the first use."""
        if self._lines is None:
            self._lines = self.text_block.split("\n")
        return self._lines

    def pieces(self, size: int) -> Iterator[TextLines]:
        """The same lines in several batches: whole lines of at least ``size`` characters, what is left in the last."""
        text, begin = self.text_block, 0
        while (end := text.find("\n", begin + size)) >= 0:
            yield _piece(text[begin:end])
            begin = end + 1
        yield _piece(text[begin:])

    def __len__(self) -> int:
        if self._count < 0:
            self._count = self.text_block.count("\n") + 1
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self.lines[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TextLines):
            return self.text_block == other.text_block
        return self.lines == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __reduce__(self) -> tuple[Any, ...]:
        return TextLines, (self.text_block, self.nbytes, self._count)

    def __repr__(self) -> str:
        return f"<TextLines of {len(self)} lines, {self.nbytes} bytes>"


def _piece(text: str) -> TextLines:
    return TextLines(text, len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")))
