"""The commands that inform: methods, cite, layers, doctor."""

from dataclasses import dataclass
from typing import Annotated

from collegium.cli.options import Answer, Command, Json
from collegium.config.option import Option
from collegium.config.options import DataSource
from collegium.methods import all_methods, find_method
from collegium.methods.base import AbstractMethod
from collegium.models.model_string import check_models


@dataclass(frozen=True, kw_only=True)
class Methods(Command):
    """What methods there are and what they need; with a SLUG, one method's card."""

    slug: Annotated[str | None, Option(positional=True)] = None
    """The method whose card is shown."""

    def run(self) -> Answer:
        """List the methods."""
        if self.slug is not None:
            kind = find_method(self.slug)
            return Answer(_card(kind), kind.card())
        known = all_methods()
        rows = [f"{name:<10} {kind.summary()} Needs: {kind.needs}." for name, kind in known.items()]
        return Answer({name: _card(kind) for name, kind in known.items()}, "\n".join(rows))


def _card(kind: type[AbstractMethod]) -> Json:
    return {
        "slug": kind.slug,
        "summary": kind.summary(),
        "needs": kind.needs,
        "options": kind().options(),
        "presets": {name: dict(changes) for name, changes in kind.presets.items()},
        "bibtex": kind.citation(),
    }


@dataclass(frozen=True, kw_only=True)
class Cite(Command):
    """The paper of a method, as BibTeX."""

    slug: Annotated[str, Option(positional=True)]
    """The method."""

    def run(self) -> Answer:
        """Cite the paper."""
        text = find_method(self.slug).citation()
        return Answer({"slug": self.slug, "bibtex": text}, text)


@dataclass(frozen=True, kw_only=True)
class Layers(Command):
    """The hidden layers of a network: names for --hint-pairs and --layers."""

    data: DataSource
    model: str
    """A model string, with or without weights."""
    every: Annotated[bool, Option(name="all")] = False
    """List every layer that can be named; by default those that hints choose from."""

    def run(self) -> Answer:
        """List the layers."""
        check_models(self.model)
        from collegium.build import input_spec_of, make_splits, make_student
        from collegium.models.features.discover import every_layer, survey

        data = self.data
        splits = make_splits(data.source, 0.0, 0, data.image_size, classes=data.classes)
        input_spec = input_spec_of(splits.train)
        network = make_student(self.model, input_spec, seed=0)
        usual = survey(network, input_spec.image_shape)
        shown = every_layer(network, input_spec.image_shape) if self.every else usual
        width = max(map(len, shown), default=0)
        lines = [
            f"{name:<{width}}  {'x'.join(map(str, shape)):<12}{'hints' * (name in usual)}".rstrip()
            for name, shape in shown.items()
        ]
        return Answer({name: list(shape) for name, shape in shown.items()}, "\n".join(lines))


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Check that this installation works."""

    def run(self) -> Answer:
        """Check the installation."""
        from collegium.doctor import examine

        checks = examine()
        passed = all(check.sound for check in checks)
        text = "\n".join(str(check) for check in checks)
        result = {"sound": passed, "checks": [vars(check) for check in checks]}
        return Answer(result, text, 0 if passed else 1)
