#!lua flags=allow-oom
-- REGISTER: write a session's entry, at CONNECT and again by a gateway's walk. It may run while memory is full: see
-- add_members.lua.
--
-- KEYS[1]  {u}:sessions
-- ARGV[1]  session id   ARGV[2]  entry, '<incarnation>[ <destination>]...'
-- ARGV[3]  ms by which the sessions hash outlives its last use   ARGV[4]  maximum number of sessions of the user
--
-- Returns 1, or 0 when the user already has the maximum number of sessions and this one is not among them.

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
