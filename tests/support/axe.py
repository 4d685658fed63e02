"""axe-core, which finds what people who can't see or use a mouse would miss: https://github.com/dequelabs/axe-core."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.support.browser import Window

PROGRAM = ROOT / ".venv/axe/node_modules/axe-core/axe.min.js"


async def violations(window: Window) -> list[str]:
    """What axe finds in the page, one line each."""
    assert PROGRAM.exists(), f"{PROGRAM} is missing, by which the page is checked: install npm, then `make setup`"
    await window.run(PROGRAM.read_text() + "; 0")
    found: list[Any] = json.loads(await window.run("axe.run().then(found => JSON.stringify(found.violations))"))
    return [f"{each['id']}: {each['help']}: {node['html'][:200]}" for each in found for node in each["nodes"]]
