"""The panel in a notebook: what is seen of a run, and the controls that steer it."""

from tetris_widget.panel.panel import TrainingPanel

__all__ = ["TrainingPanel"]
