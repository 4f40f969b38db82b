#!lua flags=allow-oom
-- FORGET: delete everything about one destination of a user. An APPEND that runs afterwards begins a new log.
--
-- KEYS[1]  {u}:meta:<dest>   KEYS[2]  {u}:log:<dest>   KEYS[3]  {u}:destinations
-- ARGV[1]  destination, '/queue/<name>' or '/topic/<name>'
--
-- Returns 1 if there was something to delete, else 0. Idempotency keys stay until they expire: without their log they
-- have no effect (append.lua).

redis.call('SREM', KEYS[3], ARGV[1])
if redis.call('UNLINK', KEYS[1], KEYS[2]) == 0 then return 0 end
return 1
