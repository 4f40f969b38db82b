#!lua flags=allow-oom
-- TAKE_TOKEN: hand out a fencing token of an ingress partition: a number that nobody had before. It may run while memory
-- is full: a dispatcher needs a token also to find out what it has appended already.
--
-- KEYS[1]  token:<partition>   KEYS[2]  fence:<partition>
-- ARGV[1]  newest token that the caller's AMQP channel has had; 0: none
--
-- Returns the token. If the key was lost, tokens go on from the ms since the epoch, because old ones stand in the logs.
-- Fewer than one in a millisecond are handed out, so these are higher than the lost ones.
--
-- A restart may have lost only the newest tokens. The caller still names its attempts by one of them, so ARGV[1] keeps
-- them from being handed out again.

local last = tonumber(redis.call('GET', KEYS[1]))
if not last then
  local time = redis.call('TIME')
  last = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local token = math.max(last, tonumber(redis.call('GET', KEYS[2])) or 0, tonumber(ARGV[1])) + 1
redis.call('SET', KEYS[1], string.format('%.0f', token))
return token
