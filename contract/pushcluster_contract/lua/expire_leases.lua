#!lua flags=allow-oom
-- EXPIRE_LEASES: have the leases run out of gateways that are taken for lost, where they are still there.
--
-- KEYS[1]  gateways
-- ARGV     incarnations
--
-- Returns 0.

for _, incarnation in ipairs(ARGV) do
  redis.call('ZADD', KEYS[1], 'XX', 0, incarnation)
end
return 0
