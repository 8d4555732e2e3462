"""Settings that a user writes as text: `--set NAME=VALUE` on a command line, and words in a YAML file.

One spelling is enough to remember, and every spelling has the same meaning everywhere:

- nothing: `none`, `None`, `null`, `~`
- truth values: `true`, `True`, `yes`, `on`; `false`, `False`, `no`, `off`
- numbers: `3`, `0.5`, `1e-4`; lists: `300,200,100` or `(300, 200, 100)`; anything else is a word.
"""

from __future__ import annotations

import ast

from pipelines.errors import InputError

SPELLINGS: dict[str, bool | None] = {
    **dict.fromkeys(("none", "null", "~"), None),
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}


def parse_setting(text: str, option: str = "--set") -> tuple[str, object]:
    """Read `NAME=VALUE`; raises `InputError` naming the option if there is no name or no "=".

    >>> parse_setting("d_units=300,200,100"), parse_setting("scaling=quantile")
    (('d_units', (300, 200, 100)), ('scaling', 'quantile'))
    >>> [parse_setting(f"flow={word}")[1] for word in ("none", "None", "null", "planar")]
    [None, None, None, 'planar']
    """
    name, found, value = text.partition("=")
    if not found or not name.strip():
        raise InputError(f"{option} {text}: expected NAME=VALUE, as in --set epsilon=6 or --units 'pt_*=MeV'")
    return name.strip(), parse_value(value)


def parse_value(text: str) -> object:
    """Return what a text means: nothing, a truth value, a number, a list of these, or a word.

    >>> parse_value("1e-4"), parse_value("yes"), parse_value("pt_*,mass_1"), parse_value("null,planar")
    (0.0001, True, ('pt_*', 'mass_1'), (None, 'planar'))
    >>> parse_value("met,Jet_pt[0]"), parse_value("[met,Jet_pt[0]]")
    (('met', 'Jet_pt[0]'), ('met', 'Jet_pt[0]'))
    """
    text = text.strip()
    if text.lower() in SPELLINGS:
        return SPELLINGS[text.lower()]
    try:
        return with_spellings(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if "," in text:
            inner = text[1:-1] if (text[0], text[-1]) in (("(", ")"), ("[", "]")) else text  # a name may end in [0]
            return tuple(parse_value(word) for word in inner.split(",") if word.strip())
        return text


def with_spellings(value: object) -> object:
    """Return a value in which words that spell nothing or a truth value are replaced by it, also within lists.

    For values that are read from YAML, or given in Python, instead of as text.

    >>> with_spellings("null"), with_spellings(["None", "planar"]), with_spellings(3)
    (None, [None, 'planar'], 3)
    """
    if isinstance(value, str):
        return SPELLINGS.get(value.strip().lower(), value)
    if isinstance(value, (list, tuple)):
        return type(value)(with_spellings(one) for one in value)
    return value
