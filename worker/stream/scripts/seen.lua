-- KEYS seen, deleted | ARGV user tombstone, conversation tombstone
-- Identities of the chunks of a conversation that were stored last.
local identities = remembered(KEYS[1], KEYS[2], {ARGV[1], ARGV[2]})
return identities
