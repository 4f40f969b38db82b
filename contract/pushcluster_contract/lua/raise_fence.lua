#!lua flags=allow-oom
-- RAISE_FENCE: let no token of an ingress partition append that is lower than this one (append.lua). A dispatcher calls it
-- before its first APPEND. It may run while memory is full, as TAKE_TOKEN may.
--
-- KEYS[1]  fence:<partition>
-- ARGV[1]  the caller's fencing token (take_token.lua)
--
-- Returns 1, or 0 if a higher token stands there. Then nothing happens.

local held, token = tonumber(redis.call('GET', KEYS[1])) or 0, tonumber(ARGV[1])
if token < held then return 0 end
if token > held then redis.call('SET', KEYS[1], ARGV[1]) end
return 1
