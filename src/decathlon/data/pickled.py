"""Arrays out of a pickle, without unpickling: CIFAR-10 is published as pickles, and a pickle is a program.

Its opcodes are read one by one (`pickletools`, which runs nothing), and the few that texts, numbers, lists, tables and
arrays need are carried out here. Nothing is imported, called or built because a file says so: a name stands for an
array or for its type, or the file is refused. What each opcode does is written in Python's own `Lib/pickletools.py`.
"""

from __future__ import annotations

import pickletools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST = 1_000_000  # opcodes: a batch of the release has 10,000 labels and as many names, with a few opcodes each
VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# What arrays are pickled with, under the names that all releases of numpy gave it.
NAMES = {f"numpy.{core}.multiarray _reconstruct": "array" for core in ("core", "_core")}
NAMES |= {f"numpy.{core}.numeric _frombuffer": "buffer" for core in ("core", "_core")}
NAMES |= {"numpy ndarray": "class", "numpy dtype": "type", "_codecs encode": "encode"}
KINDS = ("u1", "i1", "i2", "i4", "i8")


@dataclass(frozen=True)
class Name:
    """One of `NAMES`: what it does."""

    what: str


@dataclass(frozen=True)
class Kind:
    """An array's type, as the pickle names it."""

    name: Any


@dataclass
class Array:
    """What an array is to be made of: version, shape, type, order and bytes."""

    parts: Any = None


class Machine:
    """The stack on which a pickle's opcodes work."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def marked(self) -> list[Any]:
        """All above the last mark, taken off."""
        place = self.marks.pop()
        found, self.stack[place:] = self.stack[place:], []
        return found

    def take(self, count: int) -> list[Any]:
        """The topmost values, taken off; those below the last mark stay out of reach."""
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise ValueError("an opcode lacks what it works on")
        found, self.stack[len(self.stack) - count :] = self.stack[len(self.stack) - count :], []
        return found

    def do(self, code: str, value: Any) -> None:
        """Carry out one opcode. Raises ValueError for one that arrays do not need."""
        push = self.stack.append
        if code in VALUES:
            push(value)
        elif code in CONSTANTS:
            push(CONSTANTS[code])
        elif code == "MARK":
            self.marks.append(len(self.stack))
        elif code in TUPLES:
            push(tuple(self.take(TUPLES[code])))
        elif code in ("EMPTY_LIST", "EMPTY_DICT"):
            push([] if code == "EMPTY_LIST" else {})
        elif code in ("LIST", "TUPLE", "DICT"):
            found = self.marked()
            push(found if code == "LIST" else tuple(found) if code == "TUPLE" else filled({}, found))
        elif code in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
            found = self.marked() if code.endswith("S") else self.take(1 if code == "APPEND" else 2)
            (onto,) = self.take(1)
            push(extended(onto, found) if code.startswith("APPEND") else filled(onto, found))
        elif code in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if code == "MEMOIZE" else value] = self.stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            push(self.memo[value])
        elif code in ("GLOBAL", "STACK_GLOBAL"):
            push(named(value if code == "GLOBAL" else " ".join(map(str, self.take(2)))))
        elif code in ("REDUCE", "BUILD"):
            push((made if code == "REDUCE" else built)(*self.take(2)))
        elif code not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"it has {code}, which a batch of pictures does not need")


def named(name: str) -> Name:
    """One of the few names that arrays need."""
    if name not in NAMES:
        raise ValueError(f"it asks for {name[:80].replace(' ', '.')}, which a batch of pictures does not need")
    return Name(NAMES[name])


def extended(onto: Any, found: list[Any]) -> list[Any]:
    """A list with more values."""
    if type(onto) is not list:
        raise ValueError("it appends to what is no list")
    onto.extend(found)
    return onto


def filled(onto: Any, found: list[Any]) -> dict[str, Any]:
    """A table with more values. Its keys are texts: to hash whatever else can take for ever."""
    if type(onto) is not dict or len(found) % 2 or not all(type(key) is str for key in found[::2]):
        raise ValueError("it has a table whose keys are no texts")
    onto.update(zip(found[::2], found[1::2], strict=True))
    return onto


def made(what: Any, given: Any) -> Any:
    """What a call of one of `NAMES` would give."""
    if not isinstance(what, Name) or type(given) is not tuple or not given:
        raise ValueError("it calls what cannot be called")
    if what.what == "array":
        return Array()
    if what.what == "buffer":  # of numpy 2: bytes, type, shape, order
        return Array((1, given[2], given[1], False, given[0]))
    if what.what == "type":
        return Kind(given[0])
    if what.what == "encode" and type(given[0]) is str:
        return given[0].encode("latin1")
    raise ValueError("it calls what cannot be called")


def built(what: Any, state: Any) -> Any:
    """An array with its parts; what a type is told beside its name is passed over."""
    if isinstance(what, Array):
        what.parts = state
    elif not isinstance(what, Kind):
        raise ValueError("it builds what is no array")
    return what


def array(found: Any) -> np.ndarray:
    """An array of bytes or whole numbers, of one or two dimensions.

    Raises:
        ValueError: It is none, or its parts do not fit together.
    """
    if not isinstance(found, Array) or type(found.parts) is not tuple or len(found.parts) != 5:
        raise ValueError("it has no array where one belongs")
    _, shape, kind, _, values = found.parts
    values = values.encode("latin1") if type(values) is str else values  # as Python 2 wrote bytes
    name = kind.name.lstrip("|<") if isinstance(kind, Kind) and type(kind.name) is str else ""
    if name not in KINDS or not isinstance(values, (bytes, bytearray)):
        raise ValueError("it has an array of what are neither bytes nor whole numbers")
    if type(shape) is not tuple or len(shape) not in (1, 2) or not all(type(size) is int for size in shape):
        raise ValueError("it has an array of no one or two dimensions")
    numbers = np.frombuffer(values, f"<{name}")
    rows, columns = (*shape, 1)[:2]
    if min(rows, columns) < 1 or rows * columns != len(numbers):
        raise ValueError(f"it has an array of {len(numbers):,} values that do not fit its shape")
    return numbers.reshape(shape)


def read(content: bytes) -> Any:
    """What a pickle holds: texts, numbers, lists, tuples, tables, and arrays still to be made by `array`.

    Raises:
        ValueError: It is damaged, or has or asks for anything else.
    """
    machine = Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escape sequences in texts, which pickletools decodes
            for number, (code, value, _) in enumerate(pickletools.genops(content)):
                if number > MOST:
                    raise ValueError(f"it has more than {MOST:,} opcodes")
                machine.do(code.name, value)
        (found,) = machine.take(1)
    except (IndexError, KeyError, UnicodeError, OverflowError) as error:
        raise ValueError(f"its opcodes do not fit together ({type(error).__name__})") from None
    return found
