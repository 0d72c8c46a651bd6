"""Fine-tuning: the protocol of trainers, and the local one. Nothing here knows where its rows come from."""

from students.training.trainer import Artefact, Estimate, Progress, Trainer, TrainingPlan

__all__ = ["Artefact", "Estimate", "Progress", "Trainer", "TrainingPlan"]
