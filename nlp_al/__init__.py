"""Active learning for people who fine-tune Hugging Face models."""

__version__ = "0.1.0"
