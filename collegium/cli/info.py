"""The commands that tell: methods, cite, layers, doctor."""

from typing import Annotated

import tyro

from collegium.cli.options import Answer, Call, Flag, Size
from collegium.config.run import Run
from collegium.methods import all_methods, find_method
from collegium.methods.base import AbstractMethod
from collegium.records.run_folder import Json


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


def layers(
    data: str,
    model: str,
    every: Annotated[Flag, tyro.conf.arg(name="all")] = False,
    image_size: Size = Run.image_size,
    json: Flag = False,
) -> Call:
    """The hidden layers of a network: names for --hint-pairs and --layers.

    Args:
        data: whose images it is given.
        model: a model string, with or without weights.
        every: list every layer that can be named; by default those that hints choose from.
        image_size: ROWS,COLUMNS a folder's images are brought to, one number for both.
        json: print the result as one JSON object on standard output.
    """

    def call() -> Answer:
        from collegium.build import hidden_layers

        usual, found = hidden_layers(model, data, image_size)
        shown = found if every else usual
        width = max(map(len, shown), default=0)
        lines = [
            f"{name:<{width}}  {'x'.join(map(str, shape)):<12}{'hints' * (name in usual)}".rstrip()
            for name, shape in shown.items()
        ]
        return Answer({name: list(shape) for name, shape in shown.items()}, "\n".join(lines))

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
