"""The commands that tell: methods, cite, doctor."""

import tyro

from collegium.method import AbstractMethod
from collegium.methods import all_methods, find_method
from collegium.record import Json
from collegium.verbs.options import Answer, Call, Flag


def methods(slug: tyro.conf.Positional[str | None] = None, json: Flag = False) -> Call:
    """What methods there are and what they need; with a SLUG, one method's card.

    Args:
        slug: of the method whose card is shown.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        if slug is not None:
            kind = find_method(slug)
            return Answer(_card(kind), kind.card())
        known = all_methods()
        rows = [f"{name:<10} {kind.summary()} Needs: {kind.needs}." for name, kind in known.items()]
        return Answer({name: _card(kind) for name, kind in known.items()}, "\n".join(rows))

    return call


def _card(kind: type[AbstractMethod]) -> Json:
    return {
        "slug": kind.slug,
        "summary": kind.summary(),
        "needs": kind.needs,
        "options": kind().options(),
        "presets": {name: dict(changes) for name, changes in kind.presets.items()},
        "bibtex": kind.citation(),
    }


def cite(slug: tyro.conf.Positional[str], json: Flag = False) -> Call:
    """The paper of a method, as BibTeX.

    Args:
        slug: of the method.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        text = find_method(slug).citation()
        return Answer({"slug": slug, "bibtex": text}, text)

    return call


def doctor(json: Flag = False) -> Call:
    """Is this installation sound?

    Args:
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        from collegium.doctor import examine

        checks = examine()
        sound = all(check.sound for check in checks)
        text = "\n".join(str(check) for check in checks)
        result = {"sound": sound, "checks": [vars(check) for check in checks]}
        return Answer(result, text, 0 if sound else 1)

    return call
