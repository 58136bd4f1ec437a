"""What the site needs done to a page before it is rendered."""

from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Blocks that no test runs say so to the tests, which readers of the site need not see."""
    return markdown.replace("```python no-run\n", "```python\n")
