"""Which sentences does the program itself say? Writes translations/sentences.pot and updates each sentences.po.

    python scripts/sentences.py

A sentence is a text in the code of a room or a door that people read on pages: whole, or with places `{name}` where the
code puts something in. What only the command line, REST or the load of a study says stays English and is left out.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
TRANSLATIONS = ROOT / "translations"
HEADER = {"project": "Equipoise", "version": "0.1", "copyright_holder": "Equipoise contributors"}

LEFT_OUT = (
    "api/",
    "cli.py",
    "demo.py",
    "installation.py",
    "jobs.py",
    "settings.py",
    "signposts.py",
    "templating.py",
    "tour.py",
    "audit/tree.py",
    "expressions/",
    "exports/formats/",
    "exports/named.py",
    "foundation/idempotency.py",
    "foundation/backup.py",
    "foundation/failures.py",
    "foundation/crypto/",
    "foundation/database.py",
    "foundation/json_parts.py",
    "foundation/languages.py",
    "participants/models.py",
    "mail/channels.py",
    "randomisation/certificate.py",
    "randomisation/drbg.py",
    "randomisation/emitted.py",
    "randomisation/predictability.py",
    "randomisation/sequence.py",
    "rendering.py",
    "repository/",
    "safety/watching.py",
    "studies/",
)
PUT_BACK = (
    "studies/rules/amending.py",
    "studies/rules/changes.py",
    "studies/rules/blinding.py",
    "studies/drafts/actions.py",
    "studies/drafts/copying.py",
    "studies/drafts/new_study.py",
    "studies/drafts/rules.py",
)
# Whatever is given to these is ours, a single word as well.
ASKED = ("gettext", "Ours")
# Labels of studies that name none of their own.
DEFAULTS = ("SEVERITIES", "RELATEDNESS", "DEVIATIONS", "UNBLINDING_REASONS")
_TECHNICAL = re.compile(r'[=<>*$/;|]|%s|json_|_at\b|^"| IN \(| IS NOT NULL|^sign-in attempt$', re.ASCII)
STATEMENTS = ("CREATE ", "INSERT ", "SELECT ", "WITH ")
_READS = re.compile(r"[A-Z“‘{]")
_WORD = re.compile(r"[a-z]{2}")


def files() -> Iterator[Path]:
    """The modules whose sentences people read on pages."""
    for path in sorted((ROOT / "app").rglob("*.py")):
        name = path.relative_to(ROOT / "app").as_posix()
        if name in PUT_BACK or not name.startswith(LEFT_OUT):
            yield path


def sentences_of(source: str) -> set[str | tuple[str, str]]:
    """The sentences of one module; a pair is a singular and its plural."""
    tree = ast.parse(source)
    _add_parents(tree)
    found: set[str | tuple[str, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) == "ngettext":
            one, other = (_constant(argument) for argument in node.args[:2])
            if one and other:
                found.add((one, other))
        asked = isinstance(node, ast.Call) and _name(node.func) in ASKED
        if asked and isinstance(node, ast.Call) and node.args:
            for each in _choices(node.args[0]):
                if text := _text(each):
                    found.add(text)
        if not isinstance(node, ast.Constant | ast.JoinedStr):
            continue
        text = _text(node)
        if text is not None and len(text) > 1 and _is_read(node, text):
            found.update(_forms(node, text))
    return found


def _forms(node: ast.AST, text: str) -> set[str]:
    """A role is said at the beginning of a line, and within a sentence."""
    if isinstance(getattr(node, "parent", None), ast.Assign) and re.fullmatch(r"[a-z_]+", text):
        words = text.replace("_", " ")
        return {words, words.capitalize()}
    return {text}


def defaults_of(source: str) -> set[str]:
    """The labels of what a study has unless it says otherwise."""
    kept = [
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and _name(node.targets[0]) in DEFAULTS
    ]
    named = [each for value in kept for each in ast.walk(value) if isinstance(each, ast.keyword)]
    return {text for each in named if each.arg == "label" and (text := _constant(each.value))}


def catalogue() -> Catalog:
    """Every sentence of every module."""
    made = Catalog(**HEADER, charset="utf-8", fuzzy=False)
    found = {each for path in files() for each in sentences_of(path.read_text(encoding="utf-8"))}
    found |= defaults_of((ROOT / "app" / "studies" / "definition.py").read_text(encoding="utf-8"))
    plural = {one for each in found if isinstance(each, tuple) for one in each}
    for each in sorted(found - plural, key=str):
        made.add(each)
    return made


def _is_read(node: ast.AST, text: str) -> bool:
    around = list(_around(node))
    if isinstance(around[0], ast.Assign) and isinstance(around[1], ast.ClassDef) and around[1].name == "Role":
        return True
    if _is_label(node, around[0], text) and not any(map(_is_for_nobody, around)):
        return True
    if " " not in text.strip(" ") and not text.startswith(" "):
        return False
    if not _WORD.search(PLACE_OF.sub("", text)) or text.startswith(STATEMENTS) or "; filename" in text:
        return False
    if not _READS.match(text) and _TECHNICAL.search(text):
        return False
    if not _READS.match(text) and isinstance(around[0], ast.Assign) and isinstance(around[1], ast.Module):
        return False  # the name of a purpose, not words
    return not isinstance(around[0], ast.Expr | ast.JoinedStr) and not any(map(_is_for_nobody, around))


def _is_label(node: ast.AST, parent: ast.AST, text: str) -> bool:
    """A word that stands as the label of something: `{"label": "Window"}`, `{Sort.STATE: "State"}`, a gate's name."""
    if not re.match(r"[A-Z][a-z]", text):
        return False
    if isinstance(parent, ast.Call):
        return _name(parent.func) in LABELLED and node in parent.args
    if isinstance(parent, ast.Tuple):  # an option of a field: its code, and its word
        return parent.elts[-1] is node and len(parent.elts) == 2 and _is_option(parent)
    if isinstance(parent, ast.Dict) and node in parent.values:
        key = parent.keys[parent.values.index(node)]
        named = _constant(key) in LABELS if key is not None else False
        return named or isinstance(key, ast.Attribute) or _is_kept(parent)
    return False


def _is_kept(words: ast.Dict) -> bool:
    parent = getattr(words, "parent", None)
    if isinstance(parent, ast.AnnAssign):
        return _name(parent.target).isupper()
    return isinstance(parent, ast.Assign) and any(_name(each).isupper() for each in parent.targets)


def _is_option(pair: ast.Tuple) -> bool:
    """Whether a pair is an option of a field of the study editor: in its place, or in a tuple that has a name."""
    around = list(_around(pair))
    if not isinstance(around[0], ast.Tuple):
        return False
    within = around[1]
    if isinstance(within, ast.Call):
        return _name(within.func) in LABELLED
    return isinstance(within, ast.Assign) and isinstance(around[-1], ast.Module) and _is_options(within)


def _is_options(node: ast.Assign) -> bool:
    """A tuple of pairs that a module hands to a field."""
    name = _name(node.targets[0])
    uses = (each for each in ast.walk(_module(node)) if isinstance(each, ast.Call) and _name(each.func) in LABELLED)
    return any(_name(argument) == name for call in uses for argument in call.args)


def _module(node: ast.AST) -> ast.AST:
    return list(_around(node))[-1]


LABELLED = ("Gate", "column", "Asked", "Rows", "Sheet", "flag", "words_table", "strata", "Line")
LABELS = frozenset({"label", "note", "title", "next", "action", "button", "words"})
PLACE_OF = re.compile(r"\{\w+\}")


def _choices(node: ast.expr) -> Iterator[ast.expr]:
    """What an expression can be: itself, or either side of an `if`."""
    if isinstance(node, ast.IfExp):
        yield from (*_choices(node.body), *_choices(node.orelse))
    else:
        yield node


def _around(node: ast.AST) -> Iterator[ast.AST]:
    while (node := getattr(node, "parent", None)) is not None:  # type: ignore[assignment]
        yield node


def _is_for_nobody(node: ast.AST) -> bool:
    """What a programmer reads when something is broken, and words that are in several languages where they stand."""
    if isinstance(node, ast.Assert):
        return True
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        return _name(node.exc.func) in ("TypeError", "AssertionError", "RuntimeError", "LookupError")
    if isinstance(node, ast.keyword):
        return node.arg in ("description", "summary")
    if isinstance(node, ast.FunctionDef):
        return node.name == "__repr__"
    return isinstance(node, ast.AnnAssign) and _name(node.target) == "WORDS"


def _text(node: ast.AST) -> str | None:
    """The text a constant or an f-string stands for, with places for what is put in."""
    if text := _constant(node):
        return text
    if not isinstance(node, ast.JoinedStr):
        return None
    names: dict[str, str] = {}
    said = []
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            written = ast.unparse(part)
            if written not in names:
                names[written] = _place(part.value, set(names.values()))
            said.append("{" + names[written] + "}")
        else:
            said.append((_constant(part) or "").replace("{", "{{").replace("}", "}}"))
    return "".join(said) if names else None


def _place(value: ast.expr, taken: set[str]) -> str:
    """A name for what is put in: the variable or attribute it comes from."""
    names = [_name(each) for each in ast.walk(value) if isinstance(each, ast.Attribute | ast.Name)]
    name = re.sub(r"\W", "", names[0].strip("_").lower()) if names else "value"
    return next(each for each in (name, *(f"{name}_{number}" for number in range(2, 20))) if each not in taken)


def _name(function: ast.AST) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _constant(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _add_parents(tree: ast.AST) -> None:
    for parent in ast.walk(tree):
        for child in ast.iter_child_nodes(parent):
            child.parent = parent  # type: ignore[attr-defined]


def main() -> None:
    """Write the template, and bring every catalogue of sentences up to date with it."""
    made = catalogue()
    with (TRANSLATIONS / "sentences.pot").open("wb") as out:
        write_po(out, made, sort_output=True, no_location=True)
    for path in sorted(TRANSLATIONS.glob("*/LC_MESSAGES/sentences.po")):
        language = path.parts[-3]
        with path.open("rb") as text:
            kept = read_po(text, locale=language)
        kept.update(made, no_fuzzy_matching=True)
        kept.obsolete.clear()
        with path.open("wb") as out:
            write_po(out, kept, sort_output=True, no_location=True)


if __name__ == "__main__":
    main()
