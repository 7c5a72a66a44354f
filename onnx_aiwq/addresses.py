"""URLs as they may be printed and stored: without the secrets that they carry.

A signed URL holds its signature in the query (``X-Amz-Signature=``, ``sig=``, ``token=``), others a name and a
password before the host. Neither says which file is meant.
"""

from __future__ import annotations

import re

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_WEB = ("http", "https")


def is_url(source: object) -> bool:
    """Whether a source is the URL of a file elsewhere (``https://``, ``s3://``, ...), not a path."""
    return isinstance(source, str) and _SCHEME.match(source) is not None


def public_address(text: str) -> str:
    """A URL, or a word that holds one, without user, password, query and fragment; other texts as they are.

    In a web address the question mark begins the query; elsewhere (``s3://models/a?.onnx``) it may be of a
    glob, and only what looks like ``?name=value`` is a query.
    """
    before, mark, rest = text.partition("://")
    if not mark:
        return text
    path, _, query = rest.partition("?")
    web = before.lower().endswith(_WEB)
    if not web and "=" not in query:
        path = rest
    if web:
        path = path.partition("#")[0]
    host, slash, place = path.partition("/")
    return f"{before}://{host.rpartition('@')[2]}{slash}{place}"
