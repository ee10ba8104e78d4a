"""The public API's docstrings as Markdown, read without importing the package: a page of the site."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = {  # and the title of each section
    "api.py": "`decathlon`",
    "evaluation/predictions.py": "Predictions",
    "tasks/recipe.py": "Recipes",
    "tasks/base.py": "Tasks",
}
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$", re.MULTILINE)
Definition = ast.FunctionDef | ast.ClassDef


def render() -> str:
    """The page."""
    parts = ["# Python, in full\n\nThe docstrings of every public function and class.\n"]
    for name, title in MODULES.items():
        module = ast.parse((ROOT / "src" / "decathlon" / name).read_text())
        parts.append(f"## {title}\n")
        exported = public_names(module)
        for node in module.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in exported and is_public(node):
                parts.append(describe(node, f"### {node.name}"))
                methods = node.body if isinstance(node, ast.ClassDef) else []
                parts += [
                    describe(method, f"#### {node.name}.{method.name}")
                    for method in methods
                    if isinstance(method, ast.FunctionDef) and is_public(method)
                ]
    return "\n".join(parts)


def public_names(module: ast.Module) -> list[str]:
    """`__all__` of a module; without it all its classes."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return [node.name for node in module.body if isinstance(node, ast.ClassDef)]


def is_public(node: Definition) -> bool:
    """Whether it has a public name and a docstring."""
    return not node.name.startswith("_") and ast.get_docstring(node) is not None


def describe(node: Definition, heading: str) -> str:
    """A heading, the signature, and the docstring."""
    return f"{heading}\n\n```python\n{signature(node)}\n```\n\n{markdown(ast.get_docstring(node) or '')}\n"


def signature(node: Definition) -> str:
    """`name(arguments) -> type` of a function; of a dataclass its fields."""
    if isinstance(node, ast.FunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        text = f"{node.name}({ast.unparse(node.args)}){returns}"
        if len(text) <= 100:
            return text
        arguments = ",\n    ".join(split_arguments(ast.unparse(node.args)))
        return f"{node.name}(\n    {arguments},\n){returns}"
    bases = ", ".join(map(ast.unparse, node.bases))
    fields = [f"    {ast.unparse(line)}" for line in node.body if isinstance(line, ast.AnnAssign)]
    return "\n".join([f"class {node.name}{f'({bases})' if bases else ''}", *fields])


def split_arguments(text: str) -> list[str]:
    """The arguments of a signature: its commas outside brackets separate them."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def markdown(docstring: str) -> str:
    """A docstring in Google style as Markdown."""
    text, *sections = SECTION.split(docstring)
    lines = re.sub(r"(^>>> .*?)(?=\n\n|\Z)", r"```pycon\n\1\n```", text.strip(), flags=re.DOTALL | re.MULTILINE)
    parts = [lines]
    for name, body in zip(sections[::2], sections[1::2], strict=True):
        text = textwrap.dedent(body.strip("\n")).rstrip()
        parts.append(f"**{name}**\n\n{text if name in ('Returns', 'Yields') else entries(text)}")
    return "\n\n".join(parts)


def entries(body: str) -> str:
    """`name: description` in each unindented line, as a list; text without names as it is."""
    items = re.split(r"\n(?=\S)", body)
    named = [re.match(r"([\w, ]+): (.*)", item, re.DOTALL) for item in items]
    if not all(named):
        return body
    rows = [f"- `{match[1]}`: {' '.join(match[2].split())}" for match in named if match]
    return "\n".join(rows)
