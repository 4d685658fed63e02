"""Real workers, a real Redis and a Cloud Storage server over HTTP, with faults; every sample is accounted for."""
