"""Short names of factors, made of what is sure about them; no two factors of a model have the same one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flr.explanation.profiles import FactorProfile

#: A factor that looks outside all titles for more than this share says little about history items.
_ELSEWHERE = 0.9
#: Mean place of what is read (see `FactorProfile.recency`) from which it is called recent, and the latest.
_RECENT, _LATEST = 0.1, 0.4
#: Difference in popularity percentiles that is worth a word.
_POPULAR = 0.03
#: Lift that is worth a word.
_LIFT = 1.2
#: Entropies below and above which attention is called a single place, and all places.
_SINGLE, _WHOLE = 0.1, 0.9
#: How a name begins that tells what a factor votes for.
_RELATIONS = {"": "", "next": "next after: ", "soon": "soon after: ", "together": "goes with: "}


def factor_names(profiles: Sequence[FactorProfile], *, reads_items: bool = False) -> list[str]:
    """Return a name for each factor, such as ``"soon after: recent Sci-Fi, popular"``.

    The names in the profiles are not looked at.
    Only what is beyond chance and what is large enough to matter gets a word. A factor of which nothing can be
    said is named by how it looks: ``"single token"``, ``"single item"``, ``"whole history"``, ``"unspecialised"``, or
    ``"no title"`` where it looks outside all of them. Where all its votes are of one kind, the name begins with it.

    Args:
        profiles: Of all factors of a model.
        reads_items: Whether they read items instead of tokens, so that none looks at a single token.
    """
    names = [_name(profile, 2, reads_items) for profile in profiles]
    shared = Counter(names)
    names = [
        _name(profile, 4, reads_items) if shared[name] > 1 else name
        for name, profile in zip(names, profiles, strict=True)
    ]
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return unique


def _name(profile: FactorProfile, n_values: int, reads_items: bool) -> str:
    if profile.elsewhere > _ELSEWHERE:
        return "no title"  # and votes for what is popular, whatever its relation
    liked = [lift.value for lift in profile.attributes if lift.is_sure and lift.lift >= _LIFT][:n_values]
    first = " ".join(filter(None, [_place(profile), "/".join(liked)]))
    reading = ", ".join(filter(None, [first, _popularity(profile)])) or _look(profile, reads_items)
    return _RELATIONS[profile.relation] + reading


def _place(profile: FactorProfile) -> str:
    recency = profile.recency
    if abs(recency.mean) < _RECENT or not recency.excludes_zero:
        return ""
    if recency.mean > 0:
        return "latest" if recency.mean >= _LATEST else "recent"
    return "oldest" if recency.mean <= -_LATEST else "early"


def _popularity(profile: FactorProfile) -> str:
    popularity = profile.popularity
    if abs(popularity.mean) < _POPULAR or not popularity.excludes_zero:
        return ""
    return "popular" if popularity.mean > 0 else "niche"


def _look(profile: FactorProfile, reads_items: bool) -> str:
    if profile.token_spread < _SINGLE and not reads_items:
        return "single token"
    if profile.spread < _SINGLE:
        return "single item"
    return "whole history" if profile.spread > _WHOLE else "unspecialised"
