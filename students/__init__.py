"""What we learn: fine-tunes, students, evaluations, rollouts, the statistics and the durable workflows."""
