"""Makes python/pyagentkey/_sync.py of _async.py. With --check it only says whether it is current."""

from __future__ import annotations

import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "python" / "pyagentkey"

NOTE = '"""The blocking client. Generated from _async.py by scripts/generate_sync.py: change that one."""'

ABOUT = '''    """Keys on a Postgres table. For any number of threads, whose calls share statements; a call that waits
    for the database lets other threads run."""'''

CLOSING = '''        """Refuses new calls, waits up to ``close_timeout`` seconds for those under way, and closes the
        connections."""'''

WEBHOOKS = """from ._webhooks import LOOK, known_webhook
from ._webhooks import pause_now as pause
from ._webhooks import posted_now as posted"""

REPLACEMENTS = [
    (r'\A""".*?"""', NOTE),
    (r"from \._(awaited|loops) import .*\n", ""),
    (r" *@(must_be_awaited|is_async)\n", ""),
    (r"import AsyncIterator, Coroutine, Iterable", "import Iterable, Iterator"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"from \._webhooks import .*", WEBHOOKS),
    (r"Coroutine\[Any, Any, (\w+)\]", r"\1"),
    (r"return Awaited\((.*)\)  # pyright.*", r"return \1"),
    (r"return HotCall\((.*)\)  # pyright.*", r"return self._wait(Call(\1))  # type: ignore[no-any-return]"),
    (r"\bAsyncAgentKey\b", "AgentKey"),
    (r'(?<=class AgentKey\(Base\):\n)    """.*?"""', ABOUT),
    (r"\basync def __aenter__\b", "def __enter__"),
    (r"\basync def __aexit__\b", "def __exit__"),
    (r"\basync def\b", "def"),
    # Only event loops serve requests.
    (r"await self\._ends\.wait\((.*?)\)", "self._close_timeout"),
    (r'(?<=def close\(self\) -> None:\n)        """.*?"""', CLOSING),
    (r"\bawait answer_of\(call\)", "self._wait(call)"),
    (r"\bawait ", ""),
]


def generated() -> str:
    source = (PACKAGE / "_async.py").read_text()
    for pattern, replacement in REPLACEMENTS:
        source, count = re.subn(pattern, replacement, source, flags=re.DOTALL if "*?" in pattern else 0)
        if count == 0:
            raise SystemExit(f"_async.py has nothing that fits {pattern!r}")
    return source


def main() -> None:
    target = PACKAGE / "_sync.py"
    source = generated()
    if sys.argv[1:] != ["--check"]:
        target.write_text(source)
    elif target.read_text() != source:
        raise SystemExit("_sync.py is not what scripts/generate_sync.py makes of _async.py: run it")


main()
