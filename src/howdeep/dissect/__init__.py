"""What a network does inside: functions of a chain and data that return frozen records."""
