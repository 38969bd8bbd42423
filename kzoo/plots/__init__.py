"""Pictures of a training and of what a model looked at."""

from kzoo.plots.attention import attention_map
from kzoo.plots.curves import learning_curve
from kzoo.plots.pictures import attention_overlay, contact_sheet

__all__ = ["attention_map", "attention_overlay", "contact_sheet", "learning_curve"]
