"""Multi-task transfer learning for recommenders that measures whether the transfer helped."""

__version__ = "0.1.0"
