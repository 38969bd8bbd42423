"""Serves a folder of exported models over HTTP and gRPC. Needs the extra `serving`."""

from typing import TYPE_CHECKING

from kzoo import imports

if TYPE_CHECKING:
    from kzoo.serving.folder import find_models
    from kzoo.serving.repository import SavedModels
    from kzoo.serving.runtime import SavedModelRuntime
    from kzoo.serving.server import Server, main

__all__, __getattr__, __dir__ = imports.face(__name__)
