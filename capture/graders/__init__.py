"""Graders: functions from an output, and what it is compared with, to a score in [0, 1]; one kind a file."""

from capture.graders.grader import Grader
from capture.graders.of_task import TaskGraders, graders_of
from capture.graders.registry import default_graders, make_grader
from capture.graders.sample import Sample

__all__ = ["Grader", "Sample", "TaskGraders", "default_graders", "graders_of", "make_grader"]
