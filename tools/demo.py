"""``make demo``: count the words of the Python standard library's sources with several worker processes."""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig
from pathlib import Path

NOT_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}


def library_globs(library: Path) -> list[str]:
    """Return globs that cover every ``.py`` file of the standard library at ``library`` and nothing installed."""
    folders = sorted(path for path in library.iterdir() if path.is_dir() and path.name not in NOT_THE_LIBRARY)
    with_sources = [folder for folder in folders if any(folder.rglob("*.py"))]
    return [f"{library}/*.py", *(f"{folder}/**/*.py" for folder in with_sources)]


def inputs_in_shell(library: Path) -> str:
    """The same files in the words of a shell, shorter than all the globs: to be pasted."""
    others = " ".join(f"-not -path '*/{name}/*'" for name in sorted(NOT_THE_LIBRARY))
    return f"$(find {shlex.quote(str(library))} -name '*.py' {others})"


def command(output: Path) -> tuple[list[str], list[str], list[str]]:
    """Return the words of the command that counts into ``output``: before the inputs, the inputs, and behind them."""
    root = Path(__file__).resolve().parent.parent
    workers = min(4, max(2, os.cpu_count() or 2))
    before = [
        str(Path(sys.executable).parent / "twister2"),
        *("submit", "standalone", "--workers", str(workers), "-o", "data.file.on_decode_error=skip"),
        str(root / "examples" / "wordcount.py"),
    ]
    return before, library_globs(Path(sysconfig.get_path("stdlib"))), ["--top", "20", "--output", str(output)]


def main() -> None:
    """Replace this process by ``twister2 submit``, after showing the command."""
    before, globs, after = command(Path(__file__).resolve().parent.parent / "demo-output")
    inputs = inputs_in_shell(Path(sysconfig.get_path("stdlib")))
    print(f"$ {shlex.join(before)} {inputs} {shlex.join(after)}", flush=True)
    os.execv(before[0], [*before, *globs, *after])


if __name__ == "__main__":
    main()
