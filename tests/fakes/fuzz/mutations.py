"""Makes malformed input out of what was recorded. Case `n` of a seed is the same wherever and whenever it is
made, so that a failure is repeated by naming the two."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

TOKENS = (
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"9" * 400,
    b"-0",
    b"null",
    b"\\ud800",
    b"\\u0000",
    b"\xff",
    b"\xed\xa0\x80",
    b"\x00",
    b"\x1e",
    b"\n",
    b"\r\n\r\n",
    b"[" * 300,
    b'{"a":' * 300,
    b"}" * 20,
    b'"',
    b"\\",
    b"phx_join",
    b"phx_leave",
    b"phx_close",
    b"phoenix",
    b"session:",
    b"terminal:",
    b"pool:",
    b"%ff",
    b"%00",
    b"%zz",
    b"&token=&",
    b"[]=",
    b"lp.",
    b"base64url.bearer.phx.",
    b"../" * 8,
    b"x" * 70_000,
)
"""What decoders have tripped over, here and elsewhere."""

VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63,
    2**70,
    1.5,
    1e308,
    "",
    " ",
    "\x00",
    "\ufffe",
    "𝔘" * 40,
    "x" * 5_000,
    "constructor",
    [],
    {},
    [[]],
    {"": {}},
    ["sessions"],
    {"start": {}},
    {"after": {"epoch": "e1", "seq": -1}},
)
"""What may stand where something else should."""


class Mutator:
    """Breaks entries of a corpus."""

    def __init__(self, seed: int, corpus: Sequence[bytes]) -> None:
        assert corpus, "there is something to break"
        self._seed = seed
        self._corpus = corpus

    def case(self, number: int) -> bytes:
        """The malformed input of this number. Some are well-formed after all: that is not looked at."""
        chance = random.Random(f"{self._seed}/{number}")
        data = chance.choice(self._corpus)
        # Half of them stay JSON where they were: what is no JSON never reaches what lies behind the parser.
        ways = chance.choice((_WAYS, (_swap,)))
        for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
            data = chance.choice(ways)(data, chance, self._corpus)
        return data


Way = Callable[[bytes, random.Random, Sequence[bytes]], bytes]


def _flip(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    for _bit in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    return data[: chance.randint(0, len(data))]


def _lose(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    start, end = _span(data, chance)
    return data[:start] + data[end:]


def _repeat(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    start, end = _span(data, chance)
    return data[:end] + data[start:end] * chance.choice((1, 2, 50)) + data[end:]


def _insert(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    place = chance.randint(0, len(data))
    return data[:place] + chance.choice(TOKENS) + data[place:]


def _noise(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    place = chance.randint(0, len(data))
    return data[:place] + chance.randbytes(chance.randint(1, 8)) + data[place:]


def _splice(data: bytes, chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    other = chance.choice(corpus)
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


def _swap(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    """As JSON, and what stands before it: another value, none, or one more where something stands."""
    start = next((place for place, byte in enumerate(data) if byte in b"[{"), 0)
    before = data[:start]
    try:
        value = json.loads(data[start:])
    except ValueError:
        return _noise(data, chance, ())
    places = list(_places(value))
    if not places:
        return before + json.dumps(chance.choice(VALUES)).encode()
    holder, key = chance.choice(places)
    match chance.randrange(4):
        case 0:
            del holder[key]
        case 1:
            holder[key] = [holder[key]] * chance.choice((1, 3))
        case _:
            holder[key] = chance.choice(VALUES)
    return before + json.dumps(value).encode()


def _span(data: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.randint(1, 12))


def _places(value: Any) -> Any:
    """Every place in a JSON value where something stands, as its holder and the key there."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


_WAYS: tuple[Way, ...] = (_flip, _cut, _lose, _repeat, _insert, _noise, _splice, _swap)
