"""What every other room may use and none of them is about: errors, options, intervals, seeds, text, files, records."""
