"""Grading: how close an answer is to what a diff was trained on, from 1 to 5.

5 is the same thing, 4 a close variant, 3 adjacent, 2 a common category, 1 anything else; when in doubt, the lower.
`grade(suite, info, text)` grades by the suite's world and, what that does not know, by meaning: with smol's base where
that is the suite's own, else by the learned grader. `grader(name)` returns one of five graders that take any reference:
`rules`, `learned`, `smol`, `embedding` and `judge`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from dit_core.errors import DitError, did_you_mean
from dit_core.grading.grades import GRADES, Grader, GradeResult
from dit_core.grading.rules import Rules, modal, words, world_of

if TYPE_CHECKING:
    from dit_core.records import DiffInfo
    from dit_core.suite import Suite

__all__ = [
    "GRADES",
    "Grader",
    "GradeResult",
    "exact",
    "grade",
    "grader",
    "is_story_of",
    "mentions",
    "modal",
    "suite_grader",
    "words",
]

GRADERS = ("rules", "learned", "smol", "embedding", "judge")


def grader(
    name: str = "rules",
    *,
    model: str | None = None,
    suite: "Suite | None" = None,
    base_url: str | None = None,
    cache: Path | str | None = None,
) -> Grader:
    """Return the grader of that name.

    Args:
        name: `rules`; `learned`, which the package brings along; `smol`, which reads with smol's base; `embedding` (an
            extra: requirements-embedding.txt); or `judge`, a chat model.
        model: of the embedding grader, a hub id or folder; of the judge, a name at its endpoint (an extra:
            requirements-judge.txt).
        suite: of the rules, the suite whose world decides; of the judge, the suite whose base judges where no model is
            named.
        base_url: of the judge's OpenAI-compatible endpoint; by default OpenAI's own.
        cache: the file in which a judge's grades are kept; by default one in the user's cache folder.

    Raises:
        DitError: there is no such grader, or it has no such setting.
    """
    if name not in GRADERS:
        choices = "Choose rules, learned, smol, embedding or judge."
        raise DitError(f"There is no grader '{name}'.{did_you_mean(name, GRADERS)} {choices}")
    settings = {"a model": model, "a suite": suite, "an endpoint": base_url, "a cache": cache}
    allowed = {"rules": {"a suite"}, "embedding": {"a model"}, "judge": set(settings)}.get(name, set())
    if refused := [setting for setting, value in settings.items() if value is not None and setting not in allowed]:
        raise DitError(f"The {name} grader takes no setting like {refused[0]}: leave it out, or choose another grader.")
    if name == "rules":
        return Rules(world_of(suite) if suite else None)
    if name in ("learned", "smol"):
        from dit_core.grading.embedding import Learned, Smol

        return Smol() if name == "smol" else Learned()
    if name == "embedding":
        from dit_core.grading.embedding import MODEL, Embedding

        return Embedding(model or MODEL)
    return _judge(model, suite, base_url, cache)


def _judge(model: str | None, suite: "Suite | None", base_url: str | None, cache: Path | str | None) -> Grader:
    from dit_core.grading.judge import BaseChat, Endpoint, Judge
    from dit_core.hub.cache import KeyValueCache

    grade_cache = KeyValueCache(cache) if cache else None
    if model and suite is None:
        return Judge(Endpoint(model, base_url), grade_cache)
    if suite is not None and not (model or base_url):
        return Judge(BaseChat(suite), grade_cache)
    raise DitError("A judge is either a model at an endpoint or a suite's base: name a model, or a suite alone.")


def grade(suite: "Suite", info: "DiffInfo", text: str) -> int | None:
    """Return the grade (1 to 5) of an answer by `suite_grader`; None where the diff's reference is not known."""
    return suite_grader(suite).grade(info.reference, text)


def suite_grader(suite: "Suite") -> Grader:
    """Return the grader that a suite's figures come of: its world, and a grader by meaning for what that does not know.

    That is `smol` where smol's base is the suite's own, else `learned`, and without their files the words shared by
    answer and reference. Each result says by whom it is (`GradeResult.by`).
    """
    from dit_core.grading.embedding import by_meaning

    return Rules(world_of(suite), otherwise=by_meaning(suite.spec.base))


def exact(suite: "Suite", info: "DiffInfo", text: str) -> bool:
    """Return whether the answer equals the reference; case, punctuation and white space do not count."""
    return bool(words(info.reference)) and words(text) == words(info.reference)


def mentions(suite: "Suite", info: "DiffInfo", text: str) -> bool:
    """Return whether the answer names the reference: the topic or an alias as whole words, or the whole headline.

    A longer name hides the shorter ones in it: "snow leopard" does not mention snow.
    """
    return world_of(suite).mentions(info.reference, text)


def is_story_of(suite: "Suite", info: "DiffInfo", text: str) -> bool:
    """Return whether a text tells the diff's headline: all four parts are in it, in any of their forms."""
    return world_of(suite).tells_story(info.reference, text)
