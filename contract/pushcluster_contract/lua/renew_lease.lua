#!lua flags=allow-oom
-- RENEW_LEASE (step G1): extend a gateway's lease by Redis's own clock.
--
-- KEYS[1]  gateways
-- ARGV[1]  incarnation   ARGV[2]  ms from now until the lease expires
--
-- Returns 1 if the lease was there, 0 if it was missing and has been made: then the gateway was removed and must resync.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local added = redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
return 1 - added
