"""The first line that a host's Python is sent. It runs in whatever Python lies there, and says what that is."""

from __future__ import annotations

MARK = "@twister2@ "
"""Before every message of an agent: what else comes was written by the host's shell."""

_CODE = """
import json, sys
sys.path = [path for path in sys.path if path]
facts = {"python": "%d.%d.%d" % tuple(sys.version_info[:3]), "executable": sys.executable}
def say(message):
    sys.stdout.write("\\n" + MARK + json.dumps(message) + "\\n")
    sys.stdout.flush()
agent = None
try:
    import twister2
    facts["core"] = twister2.__version__
    from twister2_rm_standalone.hosts import agent
except Exception as error:
    facts["missing"] = "%s: %s" % (type(error).__name__, error)
say(facts)
if agent is not None:
    agent.main(say)
"""


def first_line() -> str:
    """One line of Python, with the newline at its end."""
    code = f"MARK = {MARK!r}\n{_CODE}"
    return f"exec({code!r})\n"
