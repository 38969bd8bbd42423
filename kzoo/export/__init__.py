"""A model -> SavedModel, CTranslate2 or TensorFlow Lite; and a SavedModel -> a function."""

from typing import TYPE_CHECKING

from kzoo import imports

if TYPE_CHECKING:
    from kzoo.export.ctranslate2 import to_ctranslate2
    from kzoo.export.folder import next_version, written_at_once
    from kzoo.export.requests import batch_requests
    from kzoo.export.saved_model import Saved, save
    from kzoo.export.served import Alignment, Completion, ServedModel, load
    from kzoo.export.tflite import to_tflite

__all__, __getattr__, __dir__ = imports.face(__name__)
