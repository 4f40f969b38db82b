#!lua flags=allow-oom
-- FORGET: delete everything of one destination of a user. An APPEND that runs afterwards begins a new log.
--
-- KEYS[1]  {u}:meta:<dest>   KEYS[2]  {u}:log:<dest>   KEYS[3]  {u}:destinations
-- ARGV[1]  destination, '/queue/<name>' or '/topic/<name>'
--
-- Returns 1 if there was something, else 0. Idempotency keys mean nothing without their log (lua/append.lua) and expire.

redis.call('SREM', KEYS[3], ARGV[1])
if redis.call('UNLINK', KEYS[1], KEYS[2]) == 0 then return 0 end
return 1
