"""Training: our own loop. `loop.run_training` runs a recipe; `step.training_step` is its heart."""
