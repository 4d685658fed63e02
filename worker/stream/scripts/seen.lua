-- KEYS seen, deleted | ARGV user tombstone, conversation tombstone, seen ttl in ms
-- Identities of the chunks of a conversation that were stored last.
return remembered(KEYS[1], KEYS[2], {ARGV[1], ARGV[2]}, ARGV[3])
