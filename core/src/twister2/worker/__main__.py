"""``python -m twister2.worker``: a supervisor."""

from __future__ import annotations

import sys

from twister2.worker.supervisor import main

sys.exit(main())
