#!lua flags=allow-oom
-- EXPIRE_LEASES: expire the leases of gateways that are taken for lost. A lease that is gone already is not created.
--
-- KEYS[1]  gateways
-- ARGV     incarnations
--
-- Returns 0.

for _, incarnation in ipairs(ARGV) do
  redis.call('ZADD', KEYS[1], 'XX', 0, incarnation)
end
return 0
