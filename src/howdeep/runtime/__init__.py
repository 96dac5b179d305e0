"""The machine that networks run on: device, threads, timing, processes, interrupts, memory."""
