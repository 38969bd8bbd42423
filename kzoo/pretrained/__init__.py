"""Models that others have trained, as kzoo models."""

from typing import TYPE_CHECKING

from kzoo import imports

if TYPE_CHECKING:
    from kzoo.pretrained.downloads import fetch
    from kzoo.pretrained.loading import load
    from kzoo.pretrained.vocabulary import with_vocabulary

__all__, __getattr__, __dir__ = imports.face(__name__)
