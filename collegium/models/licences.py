"""Licences of weights: what the well-known ones forbid, by the names that hubs and SPDX give them.

No legal advice: this reads what a file or a library states, and names the few terms that concern
publishing a student trained from it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

COMMERCIAL = "commercial use"
CHANGES = "passing on what was made from it"
BEYOND_RESEARCH = "use beyond research"
UNKNOWN = "unknown"
NAMELESS = ("", "unknown", "other", "none", "n/a", "unlicense-unknown", "noassertion")
"""Entries without information."""

_FREE = (
    "apache-2.0 mit mit-0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear isc zlib unlicense "
    "wtfpl cc cc0-1.0 cc-by-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 afl-3.0 artistic-2.0 "
    "bsl-1.0 ecl-2.0 ms-pl ncsa postgresql pddl odc-by cdla-permissive-1.0 cdla-permissive-2.0 "
    "0bsd python-2.0 c-uda apple-ascl etalab-2.0 openmdw-1.0 openmdw-1.1"
)
_SAME_TERMS = (
    "agpl-3.0 gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 lgpl-lr osl-3.0 epl-1.0 epl-2.0 eupl-1.1 "
    "eupl-1.2 mpl-2.0 cc-by-sa-3.0 cc-by-sa-4.0 odbl gfdl cdla-sharing-1.0 openrail "
    "openrail++ creativeml-openrail-m bigscience-openrail-m bigscience-bloom-rail-1.0 "
    "bigcode-openrail-m dinov3-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma "
    "deepfloyd-if-license lfm1.0 tii-falcon-llm"
)
_NON_COMMERCIAL = (
    "cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 "
    "intel-research fair-noncommercial-research-license apple-amlr nvidia-source-code-nc "
    "cc-nc"
)
_RESEARCH = "intel-research fair-noncommercial-research-license apple-amlr h-research"


@dataclass(frozen=True)
class Licence:
    """Terms that bear on a student.

    Attributes:
        name: identifier, in lower case; "unknown" if nothing is stated.
        known: whether it stands in our table.
        forbids: what it forbids, in parts.
        same_terms: what is passed on has to carry its terms.
    """

    name: str
    known: bool
    forbids: tuple[str, ...] = ()
    same_terms: bool = False

    @property
    def warning(self) -> str:
        """One line if it forbids something or is not known here; else empty."""
        if self.forbids:
            return (
                f"its licence {self.name} forbids {' and '.join(self.forbids)}: that may hold for "
                "a student that is trained from it"
            )
        if self.name != UNKNOWN and not self.known:
            return (
                f"its licence {self.name!r} is none of those known here: read it before you pass "
                "on a student"
            )
        return ""


_TERMS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    (_FREE, (), False),
    (_SAME_TERMS, (), True),
    (_NON_COMMERCIAL, (COMMERCIAL,), False),
    ("cc-by-nd-3.0 cc-by-nd-4.0", (CHANGES,), False),
    ("cc-by-nc-nd-3.0 cc-by-nc-nd-4.0", (COMMERCIAL, CHANGES), False),
    (_RESEARCH, (COMMERCIAL, BEYOND_RESEARCH), False),
)
LICENCES: Mapping[str, Licence] = {
    name: Licence(name, True, forbids, same_terms)
    for names, forbids, same_terms in _TERMS
    for name in names.split()
}
"""Each known identifier, in lower case."""


def read_licence(entry: str) -> Licence:
    """The licence that an entry of a file or a library names.

    >>> read_licence("CC-BY-NC-4.0").forbids
    ('commercial use',)
    >>> read_licence("").name, read_licence("mine").known
    ('unknown', False)
    """
    name = re.sub(r"[\s_]+", "-", entry.strip().casefold())
    if name in NAMELESS:
        return Licence(UNKNOWN, False)
    name = re.sub(r"^(license|licence):", "", name)
    plain = re.sub(r"-(only|or-later|license|licence)$", "", name)
    for spelling in (name, plain, re.sub(r"^(the-)?(apache|mit|bsd)$", r"\2", plain)):
        if spelling in LICENCES:
            return LICENCES[spelling]
    return _by_parts(name)


def _by_parts(name: str) -> Licence:
    """A licence that is not in the table, judged by the parts of its name."""
    parts = set(re.split(r"[^a-z0-9]+", name))
    text = name.replace("-", "")
    signs = {
        COMMERCIAL: "nc" in parts or "noncommercial" in text,
        CHANGES: "nd" in parts or "noderivative" in text,
        BEYOND_RESEARCH: "researchonly" in text or "research" in parts,
    }
    forbids = tuple(what for what, found in signs.items() if found)
    return Licence(name[:80], bool(forbids), forbids)
