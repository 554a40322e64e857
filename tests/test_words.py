"""The public names and the docs' headings use the field's words; the glossary of docs/notation.md has the rest."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OLD = {  # a house word of before, and the field's
    "told": "conditioned on", "tell": "condition", "asked": "arguments, context", "ask": "evaluate",
    "question": "training input", "answer": "prediction", "answers": "predictions", "place": "position",
    "places": "positions", "symbol": "token", "symbols": "tokens", "row": "sample", "rows": "samples",
    "beside": "side input, aligned with", "mend": "correct", "faulty": "corrupted", "stretch": "window",
    "stretches": "windows", "average": "EMA", "averages": "EMA", "partly": "masked", "taste": "token sampling",
    "sureness": "confidence", "reluctance": "edit threshold", "sheet": "preview", "settled": "converged",
    "bent": "map_logits", "toward": "extrapolate_from", "reservoir": "empirical", "layout": "task", "learning": "method",
}  # fmt: skip
TABLES = {  # where a row is a row: of a table, a file or a grid
    "modalities/row_groups.py",
    "cli/table.py", "evaluation/report.py", "evaluation/page.py", "evaluation/likelihood.py", "evaluation/suite.py",
    "diffusion/sampler/linear.py", "diffusion/sampler/fitted.py", "diffusion/sampler/state.py", "modalities/modality.py",
    "modalities/image/byte_store.py", "modalities/image/data.py", "modalities/image/store.py", "modalities/image/table.py",
    "modalities/image/evaluate.py", "modalities/image/options.py", "modalities/image/likelihood/measure.py",
    "modalities/points/evaluate.py", "modalities/text/evaluate.py", "modalities/music/evaluate.py",
    "modalities/speech/evaluate.py", "modalities/video/evaluate.py", "modalities/table/evaluate.py",
    "modalities/table/metrics.py", "modalities/table/modality.py", "modalities/table/preview.py",
    "modalities/table/write.py", "modalities/motion/evaluate.py", "modalities/joint/evaluate.py",
}  # fmt: skip
KEPT = {("modalities/image/glyphs.py", "symbol"), ("networks/encoder.py", "rows")}


def names(path: Path) -> list[tuple[str, int]]:
    """Public names of a module: its own, its classes and functions, their fields and parameters."""
    found = [(path.stem, 1)]

    def walk(body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.append((node.name, node.lineno))
                found.extend(
                    (s.target.id, s.lineno)
                    for s in node.body
                    if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)
                )
                walk(node.body)
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                found.append((node.name, node.lineno))
                found.extend((a.arg, node.lineno) for a in (*node.args.args, *node.args.kwonlyargs))

    walk(ast.parse(path.read_text()).body)
    return found


def words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


@pytest.mark.parametrize(
    "room", sorted(p.name for p in (ROOT / "src" / "langevin").iterdir() if p.is_dir() and p.name != "__pycache__")
)
def test_public_names_use_the_fields_words(room):
    base = ROOT / "src" / "langevin"
    wrong = []
    for path in sorted((base / room).rglob("*.py")):
        where = str(path.relative_to(base))
        for name, line in names(path):
            for word in words(name):
                tabular = word in ("row", "rows") and where in TABLES
                if word in OLD and not tabular and (where, word) not in KEPT:
                    wrong.append(f"{where}:{line}: {name} (the field's word: {OLD[word]})")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_headings_use_the_fields_words(page):
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), re.M)
    if page.name == "log.md":  # dated, as it was written
        return
    assert not [
        h for h in headings for word in words(h) if word in set(OLD) - {"row", "rows", "learning", "layout", "beside"}
    ]


def test_the_glossary_explains_what_the_field_has_no_word_for():
    glossary = (ROOT / "docs" / "notation.md").read_text().split("## Glossary")[1]
    entries = re.findall(r"^\| ([^|]+?) \|", glossary, re.M)[2:]
    assert len(entries) >= 15
    assert not set(entries) & set(OLD)
