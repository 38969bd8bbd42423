"""Pictures of a training and of what a model looked at."""

__all__ = ["attention_map", "attention_overlay", "contact_sheet", "learning_curve"]
