"""What a structure's name says: words, side, dose level, and which channel it fits.

A name is taken apart into words and numbers, whatever its case, separators, accents and side marks,
and compared as a whole: "optRectum" is not "Rectum" with something before it, it is another name.
Targets are read instead: a PTV may carry a dose, a level and free text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from .protocol import Channel, StructureProtocol

__all__ = [
    "OTHER_VOLUMES",
    "StructureName",
    "TargetName",
    "best_fits",
    "channel_spellings",
    "fit_name",
    "has_dose",
    "is_helper",
    "is_related",
    "parse_name",
    "read_target",
    "same_name",
]

Side = Literal["left", "right", "both"]

_LEVEL_TOLERANCE_GY = 0.5  # 33 × 2.12 Gy = 69.96 Gy is the 70 Gy level


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that can mean nothing but a side count anywhere in a name; abbreviations only at its ends.
_LEFT_WORDS = _words(
    "left lt lft links linke linker linkes lks gauche gche izquierda izquierdo izq sinistra "
    "sinistro sinister sinistrum esquerda esquerdo"
)
_RIGHT_WORDS = _words(
    "right rt rgt rght rechts rechte rechter rechtes rts droite droit dte derecha derecho dcha "
    "dextra dexter dextrum destra destro direita direito"
)
_SIDE_WORDS: dict[str, Side] = {
    **dict.fromkeys(_LEFT_WORDS, "left"),
    **dict.fromkeys(_RIGHT_WORDS, "right"),
    **dict.fromkeys(_words("both bilat bilateral bds beide beidseits lr rl"), "both"),
}
_SIDE_MARKS: dict[str, Side] = {
    **dict.fromkeys(_words("l li g sin sx sn iz esq"), "left"),
    **dict.fromkeys(_words("r re d der dx dex dext dir"), "right"),
}
_ATTACHED_MARKS = {
    "left": ("l", "lt", "left", "li", "links"),
    "right": ("r", "rt", "right", "re", "rechts"),
}
_FILLERS = _words("oar roi organ contour struct structure the of and et und y e de du del di la")

OTHER_VOLUMES = _words("gtv ctv itv prv")
_HELPER_WORDS = _words(
    "opt ring rings prv avoid avoidance avd z zz zzz eval evl ev minus nto couch shell help helper "
    "hilf hilfs hilfe hilfsstruktur dummy tmp temp test old alt crop cropped cut sub subtract "
    "subtracted expanded exp expansion margin wall overlap ovl ov intersect intersection not no "
    "ohne without wo less in out outside inside push cool hot cold control ctrl spill grad nt dvh "
    "iso isodose robust air skin build buildup bolus flash tune tuning tuned copy backup draft "
    "wrong use ex excl partial part mod rind collar donut ghost block s"
)
_HELPER_STEMS = ("opt", "avoid", "help", "eval", "crop", "hilf", "ring", "isodo")
# A leading underscore, "~" and "!" mark non-dosimetric, partial and edited structures (TG-263);
# "-03" a target cropped by 3 mm; "+5" and "- 5 mm" an expanded or shrunken one.
_HELPER_SIGNS = re.compile(r"^_|[~!]|\+\s*\d|[-−–]\s*0\d|[-−–]\s*\d+(?:[.,]\d+)?\s*[mc]m\b")
# What may stand before "PTV", or behind a hyphen after it, in the name of a plain target.
_TARGET_WORDS = _words(
    "final plan planning boost sib primary prim nodal node nodes nodi ln lnn lymph lymphnodes neck "
    "prostate prostata pelvis pelvic pelv tumor tumour breast chest vault cervix uterus vagina "
    "total all sum initial phase dose sv seminal vesicles bed"
)
_LEVEL_WORDS: dict[str, int] = {
    **dict.fromkeys(_words("high hi hd hr hoch alto alta"), 0),
    **dict.fromkeys(_words("mid middle intermediate inter int ir md med medium mittel medio"), 1),
    **dict.fromkeys(_words("low lo ld lr elective el niedrig basso bajo"), 2),
}
_NOT_A_DOSE = _words("mm cm fx fr frac fracs fraction fractions")
_UMLAUTS: dict[str, str | int | None] = {
    "ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue",
    "ß": "ss", "œ": "oe", "Œ": "Oe", "æ": "ae", "Æ": "Ae",
}  # fmt: skip


@dataclass(frozen=True)
class StructureName:
    """A name taken apart: `words` without side and fillers, `tokens` with everything."""

    words: tuple[str, ...]
    side: Side | None
    tokens: tuple[str, ...]
    separators: tuple[str, ...]  # what stood before each token

    @property
    def key(self) -> str:
        """Words run together, numbers apart: "PTV_1_70" is not "PTV_170"."""
        return "".join(f"_{word}_" if word[0].isdecimal() else word for word in self.words)


@lru_cache(maxsize=4096)
def parse_name(name: str) -> StructureName:
    """A name taken apart."""
    text = _folded(name)
    text = re.sub(r"(?i)(ptv|gtv|ctv|itv|prv)", r" \1 ", text)
    text = re.sub(r"(?i)(?<=\d)(\s*c?gy)(?=[^a-z]|x\d|$)", lambda m: f" {m[1].lower()} ", text)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text).casefold()
    found = list(re.finditer(r"\d+(?:[.,p]\d+)?|[^\W\d_]+", text))
    starts = [0, *(match.end() for match in found)]
    separators = tuple(text[start : m.start()] for start, m in zip(starts, found, strict=False))
    tokens = tuple(re.sub(r"(?<=\d)[,p]", ".", match.group()) for match in found)
    words, side = _without_side(tokens)
    kept = tuple(word for word in words if word not in _FILLERS) or words
    return StructureName(tuple(map(_without_umlauts, kept)), side, tokens, separators)


def _folded(name: str) -> str:
    """Accents dropped, umlauts written out; case stays, for camelCase still has to be seen."""
    # Composed first: "u" with a combining diaeresis is an umlaut too.
    composed = unicodedata.normalize("NFC", name).translate(str.maketrans(_UMLAUTS))
    decomposed = unicodedata.normalize("NFKD", composed)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def _without_umlauts(word: str) -> str:
    """ "hueft", "huft" and "hüft" become one word."""
    return word.replace("ae", "a").replace("oe", "o").replace("ue", "u")


def _without_side(tokens: tuple[str, ...]) -> tuple[tuple[str, ...], Side | None]:
    """Tokens without side marks, and the side; "both" when marks contradict each other."""
    sides = {_SIDE_WORDS[token] for token in tokens if token in _SIDE_WORDS}
    if sides and len(tokens) > 1:
        rest = tuple(token for token in tokens if token not in _SIDE_WORDS)
        return rest, sides.pop() if len(sides) == 1 else "both"
    letters = [i for i, token in enumerate(tokens) if not token[0].isdecimal()]
    marks = {
        i: _SIDE_MARKS[tokens[i]] for i in letters[:1] + letters[-1:] if tokens[i] in _SIDE_MARKS
    }
    if not marks or len(letters) <= len(marks):
        return tokens, None
    rest = tuple(token for i, token in enumerate(tokens) if i not in marks)
    found = set(marks.values())
    return rest, found.pop() if len(found) == 1 else "both"


def same_name(one: StructureName, other: StructureName) -> bool:
    """Same words in whatever order, or run together, on the same side."""
    if one.side != other.side or not one.words:
        return False
    return one.key == other.key or sorted(one.words) == sorted(other.words)


def is_helper(name: str) -> bool:
    """Whether a name is that of a derived structure: cropped, expanded, for optimization …"""
    tokens = parse_name(name).tokens
    return (
        _HELPER_SIGNS.search(name) is not None
        or not _HELPER_WORDS.isdisjoint(tokens)
        or any(token.startswith(_HELPER_STEMS) for token in tokens)
    )


@lru_cache(maxsize=256)
def channel_spellings(channel: Channel) -> tuple[tuple[int, str, StructureName], ...]:
    """(tier, reason, name) for every spelling of a channel, the best tier first."""
    listed = [
        (1, "the channel's name", channel.name),
        (2, f"TG-263 name {channel.tg263}", channel.tg263),
        *(
            (3, f'synonym "{spelling}"', spelling)
            for spelling in (channel.label, *channel.synonyms)
        ),
    ]
    return tuple((t, reason, _with_side(parse_name(name), channel)) for t, reason, name in listed)


def fit_name(name: str, channel: Channel) -> tuple[int, str] | None:
    """How well a name fits a channel: tier (0 is best) and reason; None when it does not."""
    if name == channel.name:
        return 0, "the channel's own name"
    if _HELPER_SIGNS.search(name):
        return None
    parsed = parse_name(name)
    for tier, reason, spelling in channel_spellings(channel):
        if same_name(parsed, spelling):
            return tier, reason
    if channel.side is None or parsed.side is not None:
        return None
    for tier, reason, spelling in channel_spellings(channel):
        # "PAROTIDL", "lfemhead": nothing separates the side's mark.
        joined = (
            (mark + spelling.key, spelling.key + mark) for mark in _ATTACHED_MARKS[channel.side]
        )
        if any(parsed.key in pair for pair in joined):
            return tier, reason
    return None


def best_fits(
    channel: Channel, names: Iterable[str]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(name, reason) of those that fit best, and of those that fit less well."""
    fits = [
        (fit[0], name, fit[1]) for name in names if (fit := fit_name(name, channel)) is not None
    ]
    lowest = min((tier for tier, _, _ in fits), default=0)
    best = [(name, reason) for tier, name, reason in fits if tier == lowest]
    return best, [(name, reason) for tier, name, reason in fits if tier > lowest]


def is_related(name: str, channel: Channel) -> bool:
    """Whether a name is that of a related structure, and not the channel's."""
    spellings = (_with_side(parse_name(related), channel) for related in channel.related)
    return any(same_name(parse_name(name), spelling) for spelling in spellings)


def _with_side(name: StructureName, channel: Channel) -> StructureName:
    """A spelling from the protocol: it may leave out the side that its channel has."""
    return name if channel.side is None else replace(name, side=channel.side)


# --- Targets -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TargetName:
    """A planning target as its name states it: dose in Gy, and level (0 high, 1 mid, 2 low)."""

    name: str
    dose_gy: float | None
    level: int | None


def read_target(name: str, protocol: StructureProtocol | None) -> TargetName | None:
    """The target that a name stands for; None if it is no plain PTV."""
    parsed = parse_name(name)
    tokens = parsed.tokens
    if "ptv" not in tokens:
        fits = protocol is not None and any(fit_name(name, c) for c in protocol.targets)
        return TargetName(name, _dose_gy(parsed), _level(tokens)) if fits else None
    place = tokens.index("ptv")
    plain = (
        tokens.count("ptv") == 1
        and OTHER_VOLUMES.isdisjoint(tokens)
        and not is_helper(name)
        and all(_may_qualify(token) for token in tokens[:place])
        and all(
            _may_qualify(token)
            for token, before in zip(
                tokens[place + 1 :], parsed.separators[place + 1 :], strict=True
            )
            if "-" in before
        )
        and not re.search(r"\d{2}\s*-\s*\d{2}", name)  # "PTV63-70": one without the other
    )
    return TargetName(name, _dose_gy(parsed), _level(tokens)) if plain else None


def _may_qualify(token: str) -> bool:
    """Whether a token states a target more closely, rather than what is cut out of it."""
    return (
        token[0].isdecimal()
        or len(token) == 1
        or token in _TARGET_WORDS
        or token in _LEVEL_WORDS
        or token in _SIDE_WORDS
        or token in ("gy", "cgy")
    )


def _level(tokens: Sequence[str]) -> int | None:
    return next((_LEVEL_WORDS[token] for token in tokens if token in _LEVEL_WORDS), None)


def _dose_gy(name: StructureName) -> float | None:
    """The one dose in a target's name, Gy; None when there is none or more than one.

    A number with a unit comes first ("70Gy"), then one that can only be cGy
    (1000 and more), then one from 20 to 100. "20Gyx3" is 60 Gy (TG-263). Other numbers are indices
    ("PTV 1"), fractions or margins.
    """
    with_unit, centigray, bare = set(), set(), set()
    for place, token in enumerate(name.tokens):
        behind = [*name.tokens[place + 1 : place + 4], "", "", ""]
        is_fraction_count = "/" in name.separators[place] or name.tokens[place - 1 : place] == (
            "x",
        )
        if not token[0].isdecimal() or is_fraction_count or behind[0] in _NOT_A_DOSE:
            continue
        unit = behind.pop(0) if behind[0] in ("gy", "cgy") else ""
        is_centigray = unit == "cgy" or (not unit and 1000 <= float(token) <= 10000)
        value = float(token) / 100 if is_centigray else float(token)
        times = int(behind[1]) if behind[0] == "x" and behind[1].isdecimal() else 1
        total = value * times if value * times <= 100 else value
        if unit:
            with_unit.add(total)
        elif is_centigray:
            centigray.add(total)
        elif 20 <= value <= 100:
            bare.add(total)
    doses = with_unit or centigray or bare
    return doses.pop() if len(doses) == 1 else None


def has_dose(target: TargetName | None, dose_gy: float) -> bool:
    """Whether a target's name states this dose, Gy."""
    if target is None or target.dose_gy is None:
        return False
    return abs(target.dose_gy - dose_gy) <= _LEVEL_TOLERANCE_GY
