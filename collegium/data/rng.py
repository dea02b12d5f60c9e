"""Random numbers without a state: each is a pure function of what it is drawn for.

A generator with a state gives other numbers when the batch size, the order or the number of
processes changes. Here the numbers that say *what for* (a seed, an example's index, a view) are
folded one after the other into a 64-bit word, by the mixing function of SplitMix64 (Steele, Lea
and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; its constants are
Stafford's variant 13). Tensors hold the words as int64; two's complement wraps as uint64 does.
"""

from enum import IntEnum

from jaxtyping import Int
from torch import Tensor

_ALL_BITS = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio, made odd
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


class Stream(IntEnum):
    """What a number is drawn for: other streams of the same seed have nothing to do with it."""

    CROP_ROW = 1
    CROP_COLUMN = 2
    FLIP = 3
    VIEW = 4
    SHUFFLE = 5
    HOLD_OUT = 6
    DIGITS_TEST = 7
    CROP_AREA = 8
    CROP_ASPECT = 9
    BRIGHTNESS = 10
    CONTRAST = 11
    SATURATION = 12
    ERASE = 13
    ERASE_AREA = 14
    ERASE_ASPECT = 15
    ERASE_ROW = 16
    ERASE_COLUMN = 17


def signed(word: int) -> int:
    """The int64 with the bits of a 64-bit word.

    >>> signed(2**64 - 1)
    -1
    """
    return word - (1 << 64) if word >> 63 else word


def fold(*parts: int) -> int:
    """One 64-bit word for a sequence of integers of any size and sign, 0 to 2**64 - 1.

    >>> fold(7, 0) == fold(7, 0), fold(7, 0) == fold(0, 7)
    (True, False)
    """
    word = 0
    for part in parts:
        word = _mix(((word ^ (part & _ALL_BITS)) + _GOLDEN) & _ALL_BITS)
    return word


def _mix(word: int) -> int:
    word = ((word ^ (word >> 30)) * _FIRST) & _ALL_BITS
    word = ((word ^ (word >> 27)) * _SECOND) & _ALL_BITS
    return word ^ (word >> 31)


def fold_in(words: Int[Tensor, "..."], *parts: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Goes on folding where `fold` stopped, for whole tensors, which are broadcast.

    `fold_in(torch.tensor(signed(fold(a))), b)` has the bits of `fold(a, b)` for each `b`.
    """
    for part in parts:
        words = _mix_all((words ^ part) + signed(_GOLDEN))
    return words


def _mix_all(words: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    words = (words ^ _shift_right(words, 30)) * signed(_FIRST)
    words = (words ^ _shift_right(words, 27)) * signed(_SECOND)
    return words ^ _shift_right(words, 31)


def _shift_right(words: Int[Tensor, "..."], bits: int) -> Int[Tensor, "..."]:
    # int64 >> copies the sign bit down; the mask clears those copies.
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def below(count: int | Int[Tensor, "..."], words: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Integers 0 to `count` - 1, from the upper 31 bits of each word.

    Args:
        count: how many values there are, 1 to 2**31; a tensor is broadcast with `words`.
        words: from `fold_in`.

    Returns:
        int64; the probabilities of two values differ by at most 2**-31.
    """
    return (_shift_right(words, 33) * count) >> 31
