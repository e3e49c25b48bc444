"""Options of ``[data.file]``."""

from __future__ import annotations

from typing import Literal

import attrs
from attrs.validators import and_, ge, gt, in_, le

from twister2.spec.options import option

DecodeErrors = Literal["error", "skip", "replace"]


@attrs.frozen(kw_only=True)
class FileConfig:
    """Options of ``[data.file]``; ``ReadRequest.options`` of the same names override them for one read."""

    on_decode_error: DecodeErrors = option(
        "error",
        "Text that is not UTF-8: error ends the job, skip leaves out the whole file and names it, replace puts U+FFFD.",
        validator=in_(("error", "skip", "replace")),
    )
    split_mb: float = option(
        64.0, "Largest piece of one file that is read as a whole by one task.", unit="MiB", validator=gt(0)
    )
    block_kb: int = option(
        256,  # words of larger blocks do not stay in the processor's cache: 10 % slower
        "Size of the pieces in which text, CSV and JSON are read; one makes one batch.",
        unit="KiB",
        validator=and_(ge(1), le(1 << 20)),
    )
    batch_rows: int = option(65_536, "Most rows of one batch read from Parquet or Arrow.", unit="1", validator=gt(0))
