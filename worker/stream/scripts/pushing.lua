#!lua
-- Prepended to scripts that push: without allow-oom, a full Redis refuses them like any other push.
