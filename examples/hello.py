"""Hello world: every worker says who it is, and returns a number.

twister2 submit standalone --workers 4 examples/hello.py
python examples/hello.py
"""

from __future__ import annotations

import twister2


def main(env: twister2.WorkerEnvironment) -> int:
    """Called on every worker, with its environment."""
    print(f"hello from worker {env.worker_id} of {env.n_workers} on {env.node.host}")
    return env.worker_id


if __name__ == "__main__":
    print(twister2.run(main, workers=4))
