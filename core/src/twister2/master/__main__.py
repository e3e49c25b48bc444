"""``python -m twister2.master``: a job master."""

from __future__ import annotations

import sys

from twister2.master.entry import main

sys.exit(main())
