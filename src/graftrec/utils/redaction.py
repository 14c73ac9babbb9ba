"""Secrets stay out of what is written and printed; in their place stands what refers to the environment, or ``***``.

A secret is what a key named like ``*key``, ``*token``, ``*password`` or ``*secret`` holds, alone, in a list or in a
mapping, and the login of a URL. It is replaced wherever its value occurs: also inside of longer texts, and as a URL,
JSON or Python would write it. One of fewer than `LEAST` letters is replaced only under its own key: elsewhere it would
be found in every number. The class that ``_target_`` names is never one.

`hide` takes those that were typed out of the command before Hydra sees it, `stored` those of a file as it is read: so
no copy that Hydra, a launcher or W&B makes holds one. Processes that a job starts inherit the environment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

SECRETS = ("key", "token", "password", "passwd", "passphrase", "secret", "passwords", "secrets", "credentials")
NO_SECRETS = ("cls_token", "num_tokens")
HIDDEN = "***"
VARIABLE = "GRAFTREC_SECRET_"
LEAST, MOST = 6, 100  # letters of a secret that is looked for in texts; how many secrets a file may hold
NAMED = ("dataset", "source", "target", "shared")  # sections of a tree where users name things: columns, tasks
# Patterns that read each letter once, however hostile a text is: what they have taken they never give back.
URL, ADDRESS, SPACE = re.compile(r"://[^\s'\"]*+"), re.compile(r"://\S*+"), re.compile(r"\s")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*+://")
REFERENCE = re.compile(r"\$\{oc\.env:" + VARIABLE + r"\d++\}")
PART = re.compile(
    r"""\$\{[^{}]*+\}|'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[^{}\[\],'"$]++|.""", re.DOTALL
)  # of [a, {b: c}]


def is_secret(key: str, value: Any) -> bool:
    """Whether ``value`` under ``key`` is a secret; one that is referred to is none."""
    named = _names_one(key)
    if isinstance(value, str):
        return (named and value not in ("", "???", HIDDEN) and "${" not in value) or bool(_logins(value))
    return named and isinstance(value, (int, float)) and not isinstance(value, bool)


def redact(tree: Any) -> Any:
    """A copy of a tree without secrets, those that the environment holds among them."""
    found = [text for key, value in _leaves(tree) if is_secret(key, value) for text in _parts(key, value)]
    secrets = _forms([*found, *_known()])

    def hidden(key: str, value: Any) -> Any:
        if not isinstance(value, str):
            return HIDDEN if is_secret(key, value) or str(value) in secrets else value
        return HIDDEN if _names_one(key) and is_secret(key, value) else _without(value, secrets)

    return _mapped(tree, hidden)


def _names_one(key: str) -> bool:
    return key.lower().endswith(SECRETS) and key.lower() not in NO_SECRETS


def _mapped(tree: Any, change: Callable[[str, Any], Any], key: str = "", top: bool = True, built: bool = False) -> Any:
    """A copy with each value changed, by the key that judges it: its own, or one above it that names a secret.

    What is above does not count where something is built of a mapping, and in `NAMED` no name does: there ``token`` may
    be a column or a task.
    """
    if isinstance(tree, (list, tuple)):
        return [_mapped(part, change, key, False, built) for part in tree]
    if not isinstance(tree, Mapping):
        return change(key, tree)
    built = built or "_target_" in tree
    above = key if _names_one(key) and not built else ""
    found = {}
    for name, part in tree.items():
        if name == "_target_":
            found[name] = part
        elif top and name in NAMED:
            found[name] = _mapped(part, lambda _, value: change("", value), "", False, True)
        else:
            found[name] = _mapped(part, change, above or str(name), False, built)
    return found


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    """Every value, with the key that judges it."""
    found: list[tuple[str, Any]] = []
    _mapped(tree, lambda key, value: found.append((key, value)))
    return found


def _parts(key: str, value: Any) -> Iterator[str]:
    """What is secret in a secret: of an address its password."""
    if _names_one(key) or not isinstance(value, str):
        yield str(value)
    if isinstance(value, str):
        yield from _passwords(value)


def _without(text: str, secrets: Iterable[str]) -> str:
    """The text without these secrets, references to ours and logins."""
    text = REFERENCE.sub(HIDDEN, text)
    if "://" in text:
        text = _urls(text).sub(_without_login, text)
    for value in secrets:
        text = text.replace(value, HIDDEN)
    return text


def _without_login(url: re.Match[str]) -> str:
    login, _, host = url[0].rpartition("@")
    return f"://{HIDDEN}@{host}" if login else url[0]


def _urls(text: str) -> re.Pattern[str]:
    """What finds the URLs of a text; where it is one as a whole, a password may hold quotes."""
    return ADDRESS if SCHEME.match(text) and not SPACE.search(text) else URL


def _logins(text: str) -> list[str]:
    """What is before the host in the URLs of a text: all to the last ``@``, as a password may hold ``/`` and ``@``."""
    if "://" not in text:
        return []
    found = (url[3:].rpartition("@")[0] for url in _urls(text).findall(text))
    return [login for login in found if login not in ("", HIDDEN) and "${" not in login]


def _passwords(text: str) -> Iterator[str]:
    """What is secret in the logins of a text: what follows the name, or a token alone."""
    for login in _logins(text):
        name, colon, password = login.partition(":")
        if colon or "/" not in login:  # else it is a path with an @ in it
            yield password if colon else name


def _forms(values: Iterable[str]) -> dict[str, None]:
    """The secrets that are looked for, the longest first, each as URLs, JSON and Python write it as well."""
    found = set()
    for value in values:
        if len(value) >= LEAST:
            found |= {value, quote(value, safe=""), unquote(value), json.dumps(value)[1:-1], repr(value)[1:-1]}
    return dict.fromkeys(sorted((each for each in found if len(each) >= LEAST), key=len, reverse=True))


def hide(argv: Iterable[str]) -> list[str]:
    """The words of a command line with each typed secret in the environment and referred to."""
    parted = [_hidden(word).partition("=") for word in argv]
    return [f"{key}{equals}{_referring(value)}" for key, equals, value in parted]


def _hidden(word: str) -> str:
    """A setting with a reference in the place of each secret that it is or that its mapping or list holds."""
    key, equals, value = word.partition("=")
    parts = key.lstrip("+~").split(".")
    above = () if parts[0] in NAMED else (part for part in parts[:-1] if _names_one(part))
    judging = next(iter(above), parts[-1])
    if not equals:
        return word
    if value[:1] in ("{", "["):
        return f"{key}={''.join(_hidden_parts(value, judging))}"
    return f"{key}={_refer(value)}" if is_secret(judging, value) else word


def _hidden_parts(value: str, key: str) -> Iterator[str]:
    """A typed mapping or list, part by part; brackets that do not match are somebody else's to say."""
    inside, current, fresh = [(False, key)], key, False  # whether it is a mapping, what judges it; is a name to come?
    for part in PART.findall(value):
        mapping, above = inside[-1]
        if part in ("{", "["):
            inside.append((part == "{", current))
            fresh = True
        elif part in ("}", "]"):
            inside = inside[:-1] or [(False, key)]
            current, fresh = inside[-1][1], False
        elif part == ",":
            current, fresh = above, True
        else:
            name, colon, rest = part.partition(":") if mapping and fresh else ("", "", part)
            if colon:
                current, fresh = above if _names_one(above) else name.strip(), False
            text = rest.strip()
            yield name + colon + (rest.replace(text, _refer(text)) if is_secret(current, text) else rest)
            continue
        yield part


def stored(tree: Any) -> Any:
    """A copy of what a file holds with each secret in the environment and referred to.

    Raises:
        ValueError: more secrets than `MOST`.
    """
    found = [(key, value) for key, value in _leaves(tree) if is_secret(key, value)]
    if len(found) > MOST:
        raise ValueError(f"more than {MOST} secrets, which no configuration needs")
    for key, value in found:
        for text in _parts(key, value):
            if len(text) >= LEAST:
                _refer(text)

    def referring(key: str, value: Any) -> Any:
        if is_secret(key, value):
            return _refer(str(value))
        return _referring(value) if isinstance(value, str) else value

    return _mapped(tree, referring)


def _refer(value: str) -> str:
    """What refers to the variable that holds a secret from now on."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1].replace(f"\\{value[0]}", value[0])
    number = 0
    while os.environ.get(f"{VARIABLE}{number}", value) != value:
        number += 1
    os.environ[f"{VARIABLE}{number}"] = value
    return f"${{oc.env:{VARIABLE}{number}}}"


def _referring(text: str) -> str:
    """A text with a reference in the place of each secret that `hide` and `stored` know."""
    own = {value: name for name, value in os.environ.items() if name.startswith(VARIABLE) and len(value) >= LEAST}
    for value in sorted(own, key=len, reverse=True):
        text = text.replace(value, f"${{oc.env:{own[value]}}}")
    return text


def shown(text: str) -> str:
    """Free text, a command or a traceback, without the secrets that this process knows of."""
    return _without(text, _forms(_known()))


def words(settings: Iterable[str]) -> list[str]:
    """Settings to be typed again: `shown`."""
    return [shown(setting) for setting in settings]


def _known() -> Iterator[str]:
    """Secrets in the environment, and what is secret in a URL there."""
    for name, value in os.environ.items():
        if name.startswith(VARIABLE) or name.lower().endswith(SECRETS):
            yield value
            yield from _passwords(value)
