"""Commands that run a worker, and show or repair what it works on."""
