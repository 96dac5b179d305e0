"""What depth costs: measured, predicted, and on paper for many devices."""
