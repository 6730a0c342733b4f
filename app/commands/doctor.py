"""`kingpost doctor`: looks at everything around the service, and says how to mend it."""

import argparse
import asyncio
import json
import os
from dataclasses import asdict

from app.doctor import configuration, files, peers
from app.doctor.finding import Finding, Verdict, wrong
from app.settings import Settings, refusals


def run(options: argparse.Namespace) -> int:
    """Print a line a check; return 0, or 1 where something is wrong."""
    findings = asyncio.run(examine())
    if options.json:
        print(json.dumps([asdict(each) for each in findings], indent=2))
    else:
        for each in findings:
            mend = f"; {each.mend}" if each.mend else ""
            print(f"{each.verdict:8} {each.check}: {each.said}{mend}")
    return int(any(each.verdict is Verdict.WRONG for each in findings))


async def examine() -> list[Finding]:
    """Return what is found by the environment's settings; refused ones leave only their files."""
    found = list(files.examine_secret_files(os.environ))
    try:
        settings = Settings()
    except ValueError as error:
        mend = "see docs/configuration.md"
        return [*(wrong("settings", each, mend) for each in refusals(error)), *found]
    found = [*configuration.examine(settings), *found, *files.examine_folders(settings)]
    return [*found, *[each async for each in peers.examine(settings)]]
