#!/usr/bin/env python3
"""The tree that tasks of Nomad's exec driver find as their root: this interpreter with its standard library, the
project as it is checked out, what it needs, a shell, and the shared libraries of all that. Nomad links its files into
the folder of every task.

usage: root.py FOLDER
"""

from __future__ import annotations

import importlib.util
import sys
import tarfile
import tempfile
from pathlib import Path

IMAGE = Path(__file__).resolve().parents[1] / "k8s" / "image.py"


def main(folder: str) -> None:
    found = importlib.util.spec_from_file_location("image", IMAGE)
    assert found is not None
    assert found.loader is not None
    image = importlib.util.module_from_spec(found)
    found.loader.exec_module(image)
    image.DISTRIBUTIONS = (*image.DISTRIBUTIONS, "twister2-rm-nomad")
    image.TOOLS = (*image.TOOLS, "grep")
    with tempfile.TemporaryFile() as layer:
        image.layer_of_system(layer)
        layer.seek(0)
        with tarfile.open(fileobj=layer) as tar:
            tar.extractall(folder, filter="fully_trusted")
    with open(Path(folder, "etc", "passwd"), "a") as users:
        users.write("nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")  # as whom the driver runs tasks


if __name__ == "__main__":
    main(sys.argv[1])
