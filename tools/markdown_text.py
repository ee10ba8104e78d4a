"""Small operations on Markdown text, for the site."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

FENCED = re.compile(r"(^(`{3,}|~{3,}).*?^\2$)", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^(#{1,6} )(.+)$", re.MULTILINE)


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with everything outside fenced code changed."""
    parts, end = [], 0
    for match in FENCED.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])


def headings(text: str) -> list[str]:
    """The headings, without the marks of links and code."""
    found = [match[2] for match in HEADING.finditer(FENCED.sub("", text))]
    return [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "") for heading in found]


def heading_ids(text: str) -> list[str]:
    """The ids that the site gives to the headings of an English page: as Python-Markdown does."""
    ids = list[str]()
    for heading in headings(text):
        ascii_text = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
        name = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_text).strip().lower())
        count = sum(re.fullmatch(rf"{re.escape(name)}(_\d+)?", other) is not None for other in ids)
        ids.append(f"{name}_{count}" if count else name)
    return ids


def github_ids(text: str) -> list[str]:
    """The ids that GitHub gives to the headings, in any script."""
    return [re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings(text)]


def set_heading_ids(text: str, ids: list[str]) -> str:
    """The text with these ids on its headings (attr_list)."""
    rest = iter(ids)
    return outside_code(text, lambda part: HEADING.sub(lambda match: f"{match[0]} {{ #{next(rest)} }}", part))
