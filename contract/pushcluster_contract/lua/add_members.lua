#!lua flags=allow-oom
-- ADD_MEMBERS: write sessions into the set by which a clean-up finds them. Gateways call it before they register a
-- session, and during their walk. It may run while memory is full, as SUBSCRIBE and REGISTER may: the number of
-- connections bounds what they write, and connected clients empty the logs.
--
-- KEYS[1]  gw:<incarnation>
-- ARGV     sessions, encoded by `keys.encode_member`
--
-- Returns how many of them are new.

return redis.call('SADD', KEYS[1], unpack(ARGV))
