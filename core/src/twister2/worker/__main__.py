"""``python -m twister2.worker``: a supervisor."""

from __future__ import annotations

from twister2.worker.supervisor import main

main()
