"""Serves a folder of exported models over HTTP and gRPC. Needs the extra `serving`."""

from kzoo.serving.folder import find_models
from kzoo.serving.runtime import SavedModelRuntime
from kzoo.serving.server import SavedModels, main

__all__ = ["SavedModelRuntime", "SavedModels", "find_models", "main"]
