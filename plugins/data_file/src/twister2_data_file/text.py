"""Reading text: blocks cut at the last newline, decoded at once."""

from __future__ import annotations

import codecs
from typing import IO, TYPE_CHECKING, Any

from twister2_data_file.compression import open_bytes
from twister2_data_file.lines import TextLines
from twister2_data_file.problems import not_the_format, reading
from twister2_data_file.reading import Piece, SplitReader

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from twister2.spec.data import Split
    from twister2.spec.errors import DataFormatError
    from twister2.spec.tasks import EndOfData
    from twister2_data_file.options import TextReadOptions

BLOCKS_PER_POLL = 32
"""Blocks of a line without end that are read before the caller gets a breath."""


CONVERT = 'convert the file, or set data.file.on_decode_error = "skip" (leaves out the file) or "replace"'


class TextReader(SplitReader):
    r"""Lines of UTF-8 text as :class:`TextLines`; small files share a batch.

    A line ends with ``\n`` or ``\r\n`` or with the file, and belongs to the split in which its first byte lies.
    """

    def __init__(self, splits: Sequence[Split], options: TextReadOptions) -> None:
        super().__init__(splits)
        self._block = options.block_kb * 1024
        self._on_error = options.on_decode_error

    def poll(self) -> TextLines | EndOfData | None:
        """The next block of lines."""
        texts: list[str] = []
        size = count = 0
        while 2 * size < self._block:  # a block ends with its last line: most are a little smaller than they may be
            piece = self.advance()
            if not isinstance(piece, Piece):
                if not texts:
                    return piece
                break
            texts.append(piece.data)
            size += piece.n_bytes
            count += piece.n_records
        return TextLines(texts[0] if len(texts) == 1 else "\n".join(texts), size, count)

    def read_split(self, split: Split, mark: Any) -> Generator[Piece | None, None, None]:
        """Texts of whole lines without the last newline; a mark is a byte offset, in packed files after unpacking."""
        path = split.spec["path"]
        start, end = int(split.spec["start"]), split.spec["end"]
        with reading(path), open_bytes(path, forward=end is None) as file:
            if mark is not None:
                start = int(mark)
            elif self._on_error == "skip" and (yield from self._is_damaged(file, path)):
                return
            elif start > 0:
                start = next_line(file, start, end, self._block)
            file.seek(start)
            for block in blocks(file, start, end, self._block):
                if block is None:
                    yield None
                    continue
                offset, data = block
                text = self._decode(data, path, offset)
                if text is not None:
                    n_lines = data.count(b"\n") + (not data.endswith(b"\n"))
                    yield Piece(text, n_lines, len(data), offset + len(data))

    def _decode(self, data: bytes, path: str, offset: int) -> str | None:
        """The lines of a block, normalised; None when it holds only a byte order mark."""
        body = data.removeprefix(codecs.BOM_UTF8) if offset == 0 else data
        if not body:
            return None
        try:
            text = body.decode("utf-8", "replace" if self._on_error == "replace" else "strict")
        except UnicodeDecodeError as error:
            at = offset + len(data) - len(body) + error.start
            raise not_utf8(path, at, body[error.start], error.reason) from error
        if "\r" in text:
            text = text.replace("\r\n", "\n")
        return text.removesuffix("\n")

    def _is_damaged(self, file: IO[bytes], path: str) -> Generator[None, None, bool]:
        """Whether a file is not UTF-8 throughout; looked at as a whole before any of it is given out."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        done, reads = 0, 0
        while True:
            data = file.read(self._block)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                at = done - pending + error.start
                self.skip_file(f"{path}: not UTF-8 ({error.reason} at byte {at})")
                return True
            if not data:
                return False
            done += len(data)
            reads += 1
            if reads % BLOCKS_PER_POLL == 0:
                yield None


def not_utf8(path: str, offset: int, byte: int, reason: str, remedy: str = CONVERT) -> DataFormatError:
    """The error for text in another encoding."""
    error = not_the_format(
        path,
        f"not UTF-8 at byte {offset} (0x{byte:02x})",
        reason,
        remedy,
        where=f"{path}, byte {offset}",
    )
    error.details["offset"] = offset
    return error


def newlines_before(path: str, offset: int) -> int:
    """How many lines end before an offset of a file."""
    count = 0
    with open_bytes(path, forward=True) as file:
        while offset > 0 and (data := file.read(min(offset, 1 << 20))):
            count += data.count(b"\n")
            offset -= len(data)
    return count


def next_line(file: IO[bytes], start: int, end: int | None, block: int) -> int:
    """Offset of the first line that begins at ``start`` or later; ``end`` when none begins before it."""
    offset = start - 1
    file.seek(offset)
    while end is None or offset < end:
        data = file.read(min(block, 1 << 16))
        at = data.find(b"\n")
        if at >= 0:
            return offset + at + 1
        if not data:
            break
        offset += len(data)
    return offset if end is None else end


def blocks(file: IO[bytes], start: int, end: int | None, size: int) -> Generator[tuple[int, bytes] | None, None, None]:
    """Blocks of whole lines that begin in ``[start, end)``, each with its offset.

    The last line of a split is read to its end, wherever that is. None comes now and then within a line that is longer
    than many blocks.
    """
    held: list[bytes] = []  # the beginning of a line whose end has not been read, from offset `start`
    n_held, reads = 0, 0
    while end is None or start < end:
        want = size if end is None else max(1, min(size, end - start - n_held))
        beyond = end is not None and start + n_held >= end
        data = file.read(1 << 16 if beyond else want)
        if not data:
            if held:
                yield start, b"".join(held)
            return
        # Within the split a block ends with its last line; what lies beyond only finishes the line begun before.
        at = data.find(b"\n") if beyond else data.rfind(b"\n")
        if at < 0:
            held.append(data)
            n_held += len(data)
            reads += 1
            if reads % BLOCKS_PER_POLL == 0:
                yield None
            continue
        held.append(data[: at + 1])
        block = b"".join(held) if len(held) > 1 else held[0]
        rest = data[at + 1 :]
        yield start, block
        start += len(block)
        held, n_held = ([rest], len(rest)) if rest else ([], 0)
