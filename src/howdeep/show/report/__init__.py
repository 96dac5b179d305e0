"""One offline HTML file of what is known about runs: the answer first, then the evidence. Nothing is measured here."""
