#!lua flags=allow-oom
-- ADD_MEMBERS (steps G1 and G2): write sessions into the set by which a clean-up finds them. It runs while memory is
-- full, as SUBSCRIBE and REGISTER do: connections bound what they write, and who comes in empties the logs.
--
-- KEYS[1]  gw:<incarnation>
-- ARGV     sessions, as `keys.encode_member` has them
--
-- Returns how many of them are new.

return redis.call('SADD', KEYS[1], unpack(ARGV))
