"""Codes of languages in all their spellings: "ZH-CN", "pt_BR", "deu", "iw", "en_US.UTF-8".

    language_of("JPN")                         # "ja"
    match({"en-US", "de"}, "eng")              # "en-US"
    resolve({"en-US", "de"}, "en", "ger")      # ["en-US", "de"]

ISO 639-1, 639-2 (both codes) and 639-3, BCP 47 and the names of locales; the langcodes package
knows which of them are the same. It is imported when a code is asked about, not before.
"""

import functools
from collections.abc import Collection, Iterable

SCRIPTS = {"latin": "Latn", "cyrillic": "Cyrl", "arabic": "Arab", "devanagari": "Deva"}
NAMES = {  # in English, of those that corpora are most often of
    **{"arabic": "ar", "bulgarian": "bg", "catalan": "ca", "chinese": "zh", "croatian": "hr"},
    **{"czech": "cs", "danish": "da", "dutch": "nl", "english": "en", "estonian": "et"},
    **{"finnish": "fi", "french": "fr", "german": "de", "greek": "el", "hebrew": "he"},
    **{"hindi": "hi", "hungarian": "hu", "icelandic": "is", "indonesian": "id", "italian": "it"},
    **{"japanese": "ja", "korean": "ko", "latvian": "lv", "lithuanian": "lt", "norwegian": "no"},
    **{"persian": "fa", "polish": "pl", "portuguese": "pt", "romanian": "ro", "russian": "ru"},
    **{"slovak": "sk", "slovenian": "sl", "spanish": "es", "swedish": "sv", "thai": "th"},
    **{"turkish": "tr", "ukrainian": "uk", "vietnamese": "vi"},
}
MISTAKEN = {  # codes of countries, taken for their languages; "kr" is Kanuri
    **{"cn": "zh", "cz": "cs", "dk": "da", "gr": "el", "jp": "ja", "kr": "ko", "ua": "uk"},
    "vn": "vi",
}
MACROLANGUAGES = {"nb": "no"}  # besides those that langcodes knows


def language_of(code: str) -> str:
    """The language of a code without script and region, as short as ISO 639 has it."""
    parsed = _parsed(code)
    return _lower(code).split("-")[0] if parsed is None else _subtag(parsed)


def locale_of(code: str) -> str:
    """A code as locales spell it: "ZH-cn" -> "zh_CN", "deu" -> "de"."""
    parsed = _parsed(code)
    return code if parsed is None else "_".join(filter(None, (parsed.language, parsed.territory)))


def is_code(code: str) -> bool:
    return _parsed(code) is not None


def code_of(text: str) -> str | None:
    """The code that a text is, or that the language of such an English name has."""
    text = text.strip()
    return NAMES.get(text.lower()) or (text if is_code(text) else None)


def doubt(code: str) -> str:
    """What is to be said of a code that is none, or that is often mistaken; else ""."""
    better = MISTAKEN.get(_lower(code)) or NAMES.get(_lower(code))
    if is_code(code) and better is None:
        return ""
    found = "another language's code" if is_code(code) else "no code of a language"
    return f"{code!r} is {found}" + (f"; is {better!r} meant?" if better else "")


def is_variant(code: str) -> bool:
    """Whether a code says a script or a region, as "en_GB" does."""
    parsed = _parsed(code)
    return parsed is not None and any(_parts(parsed)[1:])


def is_same(code: str, other: str) -> bool:
    """Whether two codes are spellings of one, as "DEU" and "de"; "pt" and "pt-BR" are not."""
    first, second = _parsed(code), _parsed(other)
    if first is None or second is None:
        return _lower(code) == _lower(other)
    return _parts(first) == _parts(second)


def match(languages: Iterable[str], code: str) -> str | None:
    """The language that is `code`, else the first that only has a script or region more or less."""
    languages = sorted(languages)
    spelled = (language for language in languages if _lower(language) == _lower(code))
    if found := next(spelled, None):
        return found
    wanted = _parsed(code)
    if wanted is None:
        return None
    known = {language: _parsed(language) for language in languages}
    known = {language: parsed for language, parsed in known.items() if parsed is not None}
    for rule in (_are_equal, _differ_in_region, _differ_in_script):
        for language, parsed in known.items():
            if rule(wanted, parsed):
                return language
    return None


def match_both(languages: Collection[str], *codes: str) -> list[str | None]:
    """The two that are meant by a source's and a target's code; no language is meant by both."""
    return [*_match_both(frozenset(languages), *codes)]


@functools.lru_cache(maxsize=1 << 12)  # a memory asks for each of its units
def _match_both(languages: frozenset[str], *codes: str) -> list[str | None]:
    found = [match(languages, code) for code in codes]
    if found[0] is not None and found[0] == found[1]:
        loser = 0 if is_same(found[1], codes[1]) else 1
        found[loser] = match({*languages} - {found[0]}, codes[loser])
    return found


def resolve(languages: set[str], source_language: str, target_language: str) -> list[str]:
    """The two of `languages` that are meant."""
    codes = {"source_language": source_language, "target_language": target_language}
    found = match_both(languages, *codes.values())
    for (name, code), language in zip(codes.items(), found, strict=True):
        if language is None:
            raise ValueError(f"`{name}` must be one of {sorted(languages)}, got {code!r}.")
    return found


def _lower(code: str) -> str:
    return code.strip().lower().replace("_", "-")


def _parsed(code: str):
    """The code as langcodes reads it, or None if it is none."""
    try:
        import langcodes
    except ImportError as error:
        raise ImportError(
            "Codes of languages need the langcodes package: pip install kzoo[recipes]"
        ) from error

    name, _, modifier = code.strip().partition("@")  # sr_RS.UTF-8@latin
    name = name.partition(".")[0]
    try:
        parsed = langcodes.Language.get(name)
    except (ValueError, LookupError):
        return None
    if modifier.lower() in SCRIPTS and parsed.script is None:
        parsed = parsed.update_dict({"script": SCRIPTS[modifier.lower()]})
    return parsed if parsed.language and parsed.is_valid() else None


def _subtag(parsed) -> str:
    language = parsed.prefer_macrolanguage().language
    return MACROLANGUAGES.get(language, language)


def _parts(parsed) -> tuple:
    return _subtag(parsed), parsed.script, parsed.territory, *(parsed.variants or ())


def _are_equal(a, b) -> bool:
    return _parts(a) == _parts(b)


def _differ_in_region(a, b) -> bool:
    """zh-TW and zh-Hant, pt and pt-BR, but neither zh-CN and zh-Hant nor en-GB and en-US."""
    return (
        _subtag(a) == _subtag(b)
        and a.maximize().script == b.maximize().script
        and (a.territory == b.territory or None in (a.territory, b.territory))
    )


def _differ_in_script(a, b) -> bool:
    """zh and zh-Hant, sr and sr-Latn: one says nothing but the language."""
    return _subtag(a) == _subtag(b) and min(len(set(_parts(each)) - {None}) for each in (a, b)) == 1
