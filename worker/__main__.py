"""`python -m worker` is `audio-batch-worker`."""

from worker.cli import main

if __name__ == "__main__":
    main()
