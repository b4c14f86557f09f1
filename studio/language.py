"""Which language the page speaks: what the studio is set to, or what each browser asks for."""

from __future__ import annotations

from dataclasses import dataclass

AUTO, ENGLISH, CHINESE = "auto", "en", "zh"
CHOICES = (AUTO, ENGLISH, CHINESE)
TITLES = {AUTO: "As the browser", ENGLISH: "English", CHINESE: "中文"}
CATALOGUES = {CHINESE: "zh_CN"}
"""Language -> the name of its catalogue; English needs none, for it stands in the sources."""
_TAGS = {ENGLISH: "en", CHINESE: "zh-CN"}


@dataclass
class Language:
    """What a studio is set to, of CHOICES; it may change while the studio runs."""

    setting: str = AUTO

    def of(self, accepted: str) -> str:
        """The language for a browser that accepts these (its Accept-Language): "en" or "zh"."""
        return self.setting if self.setting != AUTO else preferred(accepted)


def preferred(accepted: str) -> str:
    """The first language of an Accept-Language header that the page speaks, by its weights; else English."""
    wanted = []
    for place, part in enumerate(accepted.split(",")):
        name, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            weight = 0.0
        wanted.append((-weight, place, name.strip().lower().partition("-")[0]))
    return next((name for weight, _, name in sorted(wanted) if weight < 0 and name in _TAGS), ENGLISH)


def tag(language: str) -> str:
    """A language as HTML names it: "zh-CN"."""
    return _TAGS[language]
