"""Writes a page a query strategy, out of its docstring, and a table of all of them, to docs/strategies/.

python docs/strategies.py
"""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from nlp_al.cli import strategy_rows
from nlp_al.strategies import STRATEGIES

FOLDER = Path(__file__).resolve().parent / "strategies"
HEADINGS = ("Use when", "Needs", "Cost", "Reference")
SHAPES = {
    "single": "texts with one label",
    "multi": "texts with several labels",
    "sequence": "sentences with a tag a word",
    "ranking": "contexts with one response to choose",
}


def sections(kind: type) -> dict[str, str]:
    """A class's docstring by heading; what stands before the first is under ""."""
    text = inspect.cleandoc(kind.__doc__ or "")
    parts = re.split(rf"\b({'|'.join(HEADINGS)}):\s", text)
    return {"": parts[0].strip(), **_pairs(parts)}


def split_parameters(kind: type, text: str) -> tuple[str, dict[str, str]]:
    """The text without its `name: meaning.` of the parameters, which follow its first line, and those."""
    summary, _, rest = text.partition("\n\n")
    names = "|".join(f.name for f in fields(kind)) or "(?!)"
    parts = re.split(rf"(?<![\w`])({names}):\s", rest)
    return f"{summary}\n\n{parts[0]}".strip(), _pairs(parts)


def _pairs(parts: list[str]) -> dict[str, str]:
    return {name: " ".join(told.split()) for name, told in zip(parts[1::2], parts[2::2], strict=True)}


def parameters(kind: type) -> dict[str, str]:
    """What each parameter means: its own docstring's words, or those of the nearest class above that has them."""
    found: dict[str, str] = {}
    for above in reversed(kind.__mro__[:-1]):
        found |= split_parameters(kind, sections(above)[""])[1]
    return {f.name: found.get(f.name, "") for f in fields(kind)}


def page(name: str, kind: type, row: dict[str, Any]) -> str:
    """The page of a strategy."""
    told = sections(kind)
    lead = split_parameters(kind, told[""])[0]
    serves = "every task" if len(row["shapes"]) == len(SHAPES) else " and ".join(SHAPES[s] for s in row["shapes"])
    lines = [
        f"# {name}",
        "",
        f"Family: {row['family']}. Serves {serves}.",
        "",
        lead,
    ]
    meanings = parameters(kind)
    if meanings:
        lines += ["", "| parameter | default | meaning |", "|---|---|---|"]
        for f in fields(kind):
            meaning = meanings[f.name].replace("|", "\\|")
            lines.append(f"| `{f.name}` | `{_yaml(f.default)}` | {meaning} |")
    for heading in HEADINGS:
        lines += ["", f"**{heading}:** {told[heading]}"]
    example = [f"strategy: {name}"]
    if meanings:
        example = ["strategy:", f"  name: {name}", *(f"  {f.name}: {_yaml(f.default)}" for f in fields(kind))]
    return "\n".join([*lines, "", "```yaml", *example, "```", "", "[All strategies](README.md)", ""])


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def index(rows: list[dict[str, Any]]) -> str:
    """The table of all strategies."""
    lines = [
        "# Query strategies",
        "",
        "Which one to take: [Which strategy should I use?](../choosing.md) These pages are written by"
        " `python docs/strategies.py` out of the docstrings.",
        "",
        f"Shapes: {'; '.join(f'{shape}, {words}' for shape, words in SHAPES.items())}.",
        "",
        "| strategy | family | shapes | fields it needs | use when |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        name = row["name"]
        shapes = "all" if len(row["shapes"]) == len(SHAPES) else ", ".join(row["shapes"])
        use = sections(STRATEGIES[name])["Use when"]
        cells = [f"[{name}]({name}.md)", row["family"], shapes, ", ".join(row["needs"]) or "none", use]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def pages() -> dict[str, str]:
    """Every file of the folder."""
    rows = {row["name"]: row for row in strategy_rows()}
    made = {f"{name}.md": page(name, kind, rows[name]) for name, kind in STRATEGIES.items()}
    return {"README.md": index([rows[name] for name in STRATEGIES]), **made}


def main() -> None:
    """Writes what is new and removes what is gone."""
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for path in FOLDER.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
