"""README.md and tokenizer files beside a model of another engine."""

import json

import tensorflow as tf

from kzoo.text import END_ID, PieceTokenizer, SubwordTokenizer, language_tag

_OF_SENTENCEPIECE = (SubwordTokenizer, PieceTokenizer)  # whose pieces the package alone gives


def write_tokenizers(folder, model):
    """Writes what each side's tokenizer is made of: `source.spm` or `source.json`, and so on."""
    for side in ("source", "target"):
        tokenizer = getattr(model, f"{side}_tokenizer")
        if isinstance(tokenizer, _OF_SENTENCEPIECE):
            (folder / f"{side}.spm").write_bytes(tokenizer.proto)
        if not isinstance(tokenizer, SubwordTokenizer):
            config = json.dumps(tokenizer.get_config(), indent=2, ensure_ascii=False)
            (folder / f"{side}.json").write_text(config + "\n", encoding="utf-8")


def ctranslate2_card(path, model, quantization, version):
    """The README.md of a CTranslate2 model."""
    source, target = model.source_tokenizer, model.target_tokenizer
    if isinstance(source, _OF_SENTENCEPIECE):
        tokens = f"source.encode({_text(source)}, out_type=str)"
        if isinstance(source, PieceTokenizer) and source.languages:
            tokens = f'["{language_tag(source.languages[-1])}", *{tokens}]'
    else:
        tokens = '[t.decode() for t in source.tokens(source.tokenize("text")).numpy()]'
    if isinstance(target, _OF_SENTENCEPIECE):
        text = "target.decode(found.hypotheses[0])"
    else:
        ids = "[target.get_vocabulary().index(token) for token in found.hypotheses[0]]"
        text = f"target.detokenize({ids}).numpy().decode()"
    pieces = target.get_vocabulary()
    never = [[pieces[each]] for each in model.suppressed]
    never = f",\n        suppress_sequences={never}" if never else ""
    remarks = (
        f"CTranslate2 adds {'the' if source.adds_end else 'no'} end token to the source by itself. "
        "Its search and its `length_penalty` differ from kzoo's:\nsee `kzoo.export.to_ctranslate2`."
    )
    if quantization is not None and "int" in quantization:
        remarks += (
            "\n\nOn an AMD CPU without VNNI (`lscpu` shows no `vnni`) CTranslate2's sums of int8 "
            "saturate, and\nlog-probabilities are wrong: set CT2_USE_MKL=1 in the environment."
        )
    return _CARD.format(
        **_facts(path, model, quantization, _OF_SENTENCEPIECE),
        format=f"CTranslate2, written with ctranslate2 {version}",
        lines=f"""\
import ctranslate2
    translator = ctranslate2.Translator(folder)
    found = translator.translate_batch(
        [{tokens}], beam_size=4, length_penalty=0, min_decoding_length=0{never})[0]
    print({text})""",
        remarks=remarks,
    )


def tflite_card(path, model, quantization, max_source_length):
    """The README.md of a TensorFlow Lite model."""
    source, target = model.source_tokenizer, model.target_tokenizer
    if isinstance(source, SubwordTokenizer):
        ids = f"source.encode({_text(source)})"
    else:
        tag = f"{language_tag(source.languages[-1])} " if source.languages else ""
        ids = f'source.tokenize("{tag}text").numpy().tolist()'
    end = f", {END_ID}" if source.adds_end else ""
    if isinstance(target, SubwordTokenizer):
        text = "target.decode(best)"
    else:
        text = "target.detokenize(best).numpy().decode()"
    return _CARD.format(
        **_facts(path, model, quantization, SubwordTokenizer),
        format=f"TensorFlow Lite (LiteRT), written with TensorFlow {tf.__version__}",
        lines=f"""\
import numpy
    from ai_edge_litert.interpreter import Interpreter  # or tf.lite.Interpreter
    search = Interpreter(f"{{folder}}/model.tflite").get_signature_runner()
    ids = [*{ids}[:{max_source_length}]{end}]
    ids += [0] * ({max_source_length + 1} - len(ids))
    found = search(ids=numpy.array([ids], "int32"))
    best = [i for i in found["ids"][0, 0].tolist() if i not in (0, {model.end_id})]
    print({text})""",
        remarks="The search is kzoo's; its options are fixed in the model.",
    )


def _facts(path, model, quantization, of_sentencepiece):
    """What both cards say; the tokenizers of these classes are read by sentencepiece alone."""
    modules, lines = set(), []
    for side in ("source", "target"):
        tokenizer = getattr(model, f"{side}_tokenizer")
        if isinstance(tokenizer, of_sentencepiece):
            modules |= {"sentencepiece"}
            load = f'sentencepiece.SentencePieceProcessor(f"{{folder}}/{side}.spm")'
        else:
            modules |= {"json", "kzoo", "pathlib"}
            lines.append(f'config = pathlib.Path(folder, "{side}.json").read_text("utf-8")')
            load = f"kzoo.{type(tokenizer).__name__}(**json.loads(config))"
        lines.append(f"{side} = {load}")
    return {
        "name": path.name,
        "path": path,
        "parameters": model.count_params(),
        "source_size": model.source_tokenizer.vocabulary_size(),
        "target_size": model.target_tokenizer.vocabulary_size(),
        "quantization": quantization or "none, float32",
        "tokenizers": "\n    ".join([f"import {', '.join(sorted(modules))}", *lines]),
    }


def _text(tokenizer):
    """A source in Python, with the tag of a language where sentencepiece knows tags."""
    is_tagged = isinstance(tokenizer, SubwordTokenizer) and tokenizer.languages
    tag = f"{language_tag(tokenizer.languages[-1])} " if is_tagged else ""
    return f'"{tag}text"' + (".lower()" if tokenizer.lowercase else "")


_CARD = """\
# {name}

A kzoo model in the format of {format}.
{parameters:,} parameters; vocabulary: {source_size:,} source, {target_size:,} target;
quantization: {quantization}.

    folder = "{path}"
    {tokenizers}
    {lines}

{remarks}

kzoo brings texts into Unicode's NFC and takes out invisible characters before it tokenizes; do the
same if yours can have them.
"""
