"""`model_card.md`: what a written model is, how it was scored, how to use it."""

import dataclasses
import datetime
import re
import shlex

import keras
import numpy as np
import tensorflow as tf

_STATED = ("data", "licence", "command", "time", "machine")  # a card without them says so


def model_card(path, model, options, card, metrics, examples, answers):
    """The text of `model_card.md`."""
    card = dict(card)
    name = card.pop("name", path.parent.name if path.name.isdigit() else path.name)
    description = card.pop("description", "")
    stated = {key: card.pop(key, "not stated") for key in _STATED}
    facts = {
        **stated,
        **card,
        "parameters": f"{model.count_params():,}",
        "vocabulary": f"{model.target_tokenizer.vocabulary_size():,} entries",
        "search": f"beam size {options.beam_size}, "
        f"length penalty {options.length_penalty}, {_listed(options.search_options)}"
        + _tokens_of(options)
        + _words_of(model, options),
        **_facts(model, options),
        **_doubts_of(options),
        "precision": options.precision,
        "exported": f"{datetime.date.today()}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}",
    }
    if languages := model.source_tokenizer.languages:
        facts["target languages"] = f"{', '.join(languages)}; the first one where none is asked for"
    parts = [f"# {name}", description, table(("", ""), facts.items())]
    if metrics:
        parts += ["## Scores", table(("metric", "value", "signature"), _score_rows(metrics))]
    if answers:
        rows = zip(examples, answers, strict=True)
        parts += ["## What it answers", table(("source", "answer"), rows)]
    reader = model.source_tokenizer
    shell, value = reader.content.usage
    asked = shlex.quote(str(path))
    # `tf.saved_model.load` knows no inputs that may be left out.
    more = f', language=tf.constant("{languages[-1]}")' if languages else ""
    name = reader.content.input_name
    usage = _USAGE.format(path=path, asked=asked, shell=shell, value=value, more=more, name=name)
    said = (text for name, text in _OUTPUTS.items() if name in options.signatures)
    usage += ", ".join(said) + "."
    if "serving_xla" in options.signatures:
        usage += _XLA_USAGE
    if "complete" in options.signatures:
        usage += _COMPLETE_USAGE
    if "stream" in options.signatures:
        usage += _STREAM_USAGE.format(asked=asked, rate=reader.features.rate_hz)
    if languages:
        usage += _LANGUAGE_USAGE.format(asked=asked, code=languages[-1])
    parts += ["## How to use it", usage]
    return "\n\n".join(part for part in parts if part) + "\n"


_USAGE = """\
    python -m kzoo {asked} {shell}

In Python with `kzoo.load`, or without kzoo:

    import tensorflow as tf
    import tensorflow_text  # registers the ops

    model = tf.saved_model.load("{path}")
    model.signatures["serving_default"]({name}=tf.constant([{value}]){more})

Signatures, each with the input `{name}` string [N]: """
_OUTPUTS = {
    "serving_default": "`serving_default` (text, score)",
    "n_best": "`n_best`\n(text, score, log_prob; K of each)",
    "align": "`align` (text, source_tokens, target_tokens, alignment)",
    "segments": "`segments`\n(text; segment, begin, end, no_speech, word_count; word, word_begin, "
    "word_end; in seconds)",
}
_XLA_USAGE = """
`serving_xla` is as `serving_default`, from a search that XLA compiles."""
_COMPLETE_USAGE = """
`complete` has a second input, `prefix` string [N], which the answers begin with (text, score,
target_tokens, token_log_prob)."""
_STREAM_USAGE = """

For live audio `stream_begin` gives the state of `rows` streams and the rate of the samples;
`stream` takes the next samples, `audio` float [N, C], with every tensor of the state, and gives the
text so far and the state for the next chunk. Keep that: the server keeps nothing.

    arecord -f S16_LE -c 1 -r {rate} -t raw | python -m kzoo {asked} --live"""

_LANGUAGE_USAGE = """

Each of these has also the input `language`, one string or [N], which servers let you leave out: its
tag, as `>>{code}<<`, is written before a text. For "" the text may begin with a tag of its own.

    python -m kzoo {asked} --language {code} "text\""""


def _facts(model, options):
    in_windows = {"in_windows": True} if "segments" in options.signatures else {}
    return model.source_tokenizer.facts(options.max_source_length, **in_windows)


def _doubts_of(options):
    if options.doubts is None:
        return {}
    thresholds = dataclasses.asdict(options.doubts)
    temperatures = ", ".join(map(str, thresholds.pop("temperatures"))) or "none"
    said = ", ".join(f"{name} {value}" for name, value in thresholds.items())
    return {"doubts": f"{said}; drawn anew at the temperatures {temperatures}"}


def _tokens_of(options):
    if options.max_length is None:
        return "of any number of tokens"
    return f"at most {options.max_length} tokens with the end"


def _words_of(model, options):
    """What the card says of the words that an answer may hold."""
    said = "; words of the source are copied" if model.copies else ""
    if options.lexicon is not None:
        said += (
            f"; of the {options.lexicon.frequent:,} most frequent words and at most "
            f"{options.lexicon.room} that were aligned with the source's in training"
        )
    if options.replace_unknown:
        said += "; an unknown word is answered by the source word it looked at"
    return said


def _listed(search_options):
    return "".join(
        f"{name} {value}, " if np.ndim(value) == 0 else f"{name} given, "
        for name, value in search_options.items()
    )


def _score_rows(metrics):
    for name, value in metrics.items():
        if isinstance(value, dict) and {"name", "value", "signature"} <= value.keys():
            kind = "" if value["name"].lower() in name.lower() else f" ({value['name']})"
            between = " [{:.2f}, {:.2f}]".format(*value["interval"]) if "interval" in value else ""
            yield f"{name}{kind}", f"{value['value']:.2f}{between}", value["signature"]
        else:
            yield name, value, ""


def facts_of(text):
    """The first table of a card's text: dict from what it states, as "licence", to the value, str.

    White space in a value came out as single spaces.
    """
    rows = re.findall(r"^\| (.+?) \| (.*) \|$", text.partition("\n## ")[0], re.MULTILINE)
    return {key: value.replace("\\|", "|") for key, value in rows if key != "---"}


def revised(text, path, facts):
    """A card's text for a model that was copied.

    Args:
        text: str.
        path: str, where the copy is.
        facts: dict, values that replace those which the card states.

    Raises:
        ValueError: the card states nothing of the kind.
    """
    for key, value in facts.items():
        row = f"| {key} | {_cell(value)} |"
        text, count = re.subn(
            rf"^\| {re.escape(key)} \| .* \|$", lambda _, row=row: row, text, flags=re.MULTILINE
        )
        if count != 1:
            raise ValueError(f"`facts` must be among {', '.join(facts_of(text))}, got {key!r}.")
    shell = shlex.quote(path)
    text = re.sub(
        r"(\n    .*python -m kzoo )(?:'[^'\n]*'|\"[^\"\n]*\"|[^\s'\"])+",
        lambda found: found[1] + shell,
        text,
    )
    text = re.sub(r'(saved_model\.load\(")[^"]+', lambda found: found[1] + path, text)
    return text


def table(header, rows):
    """A table in Markdown.

    Args:
        header: tuple of str. rows: iterable of tuples as long.
    """
    rows = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in row)} |" for row in rows)


def _cell(value):
    return " ".join(str(value).replace("|", "\\|").split())
