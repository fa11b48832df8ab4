"""Persona files: who an agent is to be, in the form that agents of Claude Code have. Pure.

Front matter between two lines `---` (`name: …` and so on, one to a line), then the text that is given to the agent.
"""

from understudy.protocol.sizes import PERSONA_CHARACTERS_MAX

FENCE = "---"


def text_of(content: str) -> str:
    """Return the text without its front matter. Raises `ValueError` when there is none, or the front matter has no end."""
    lines = content.removeprefix("\ufeff").splitlines()
    if lines and lines[0].strip() == FENCE:
        end = next((at for at, line in enumerate(lines[1:], 1) if line.strip() == FENCE), None)
        if end is None:
            raise ValueError(f"its front matter begins with {FENCE} and does not end: add a line {FENCE} behind it")
        lines = lines[end + 1 :]
    text = "\n".join(lines).strip()
    if not text:
        raise ValueError("has no text for the agent behind its front matter")
    if len(text) > PERSONA_CHARACTERS_MAX:
        raise ValueError(f"has {len(text)} characters of text; the limit is {PERSONA_CHARACTERS_MAX}")
    return text
