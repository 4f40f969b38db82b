#!lua flags=allow-oom
-- REMOVE_SESSION: delete a session's entry, but only if it still belongs to the given incarnation.
--
-- KEYS[1]  {u}:sessions
-- ARGV[1]  session id   ARGV[2]  incarnation
--
-- Returns 1 if it was deleted, else 0.

local entry = redis.call('HGET', KEYS[1], ARGV[1])
if entry and string.match(entry, '^%S+') == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
