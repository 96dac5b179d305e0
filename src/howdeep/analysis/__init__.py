"""What a network does: functions of a chain and batches that return frozen records."""
