"""A model -> SavedModel, CTranslate2 or TensorFlow Lite; and a SavedModel -> a function."""

__all__ = [
    "Alignment",
    "Completion",
    "ServedModel",
    "batch_requests",
    "load",
    "next_version",
    "save",
    "to_ctranslate2",
    "to_tflite",
    "written_at_once",
]
