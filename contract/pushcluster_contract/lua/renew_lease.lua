#!lua flags=allow-oom
-- RENEW_LEASE: extend a gateway's lease, by the clock of Redis.
--
-- KEYS[1]  gateways
-- ARGV[1]  incarnation   ARGV[2]  ms from now until the lease expires
-- ARGV[3]  ms after the expiry of a lease, from when on its gateway is taken for lost
--
-- Returns 1 if the lease existed. Returns 0 if it was missing, or had expired so long ago that sessions of the gateway
-- may have been removed: then the gateway must resync.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
if before and tonumber(before) + tonumber(ARGV[3]) > now then
  return 1
end
return 0
