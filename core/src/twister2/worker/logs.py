"""Log records of a worker, sent over its link."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from twister2.worker.interrupt import runs_ours

if TYPE_CHECKING:
    from twister2.worker.link import Link


class LinkHandler(logging.Handler):
    """Sends records as plain data: level, logger, text."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info:
                text += "\n" + (self.formatter or logging.Formatter()).formatException(record.exc_info)
        except Exception:  # a bad format must not end the program: it is told on stderr, as logging's own handlers do
            self.handleError(record)
            return
        self._link.post("log", {"level": record.levelname, "logger": record.name, "text": text, "time": record.created})
        if not runs_ours(sys._getframe(1)):  # ours may be in the middle of something
            self._link.heed()  # a program that does nothing but this hears of its end here
