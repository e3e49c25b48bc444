"""``python -m twister2``: the ``twister2`` command."""

from __future__ import annotations

import sys

from twister2.cli.main import main

sys.exit(main())
