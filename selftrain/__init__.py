"""selftrain: self-training for images, from a small labelled set and a large unlabelled one."""

__version__ = "0.1.0"
__all__ = ["__version__"]
