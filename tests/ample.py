"""How long a test waits for what must happen: long enough for a busy machine, so that only a defect gets that far."""

AMPLE_S = 60.0
