"""A module of the tests as a process of its own, which takes one order and gives one answer."""

import json
import subprocess
import sys
from typing import Any


class Apart:
    """Such a process while it runs: its order and its answer are JSON on its stdin and stdout."""

    def __init__(self, module: str, **order: Any) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order))
        self._process.stdin.close()

    def answer(self) -> Any:
        """Wait for its end and return what it said."""
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        if self._process.wait() != 0:
            raise RuntimeError(f"{self._module} failed")
        return json.loads(text)
