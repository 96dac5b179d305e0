"""Chain → chain: without units, with folded norms, with norm statistics estimated anew."""
