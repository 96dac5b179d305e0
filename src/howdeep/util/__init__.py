"""What every other folder may use and none of them is about: errors, units, intervals, seeds, text, files, records."""
