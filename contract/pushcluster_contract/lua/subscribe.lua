#!lua flags=allow-oom
-- SUBSCRIBE (step G3, and the gateway's walk): add a destination to a session's entry and return the log's state.
-- Runs in the slot in which APPEND runs: a message is either already in the log, or its dispatcher sees this session.
-- And it runs while memory is full: who fetches what waits is who makes room (add_members.lua).
--
-- KEYS[1]  {u}:sessions   KEYS[2]  {u}:meta:<dest>   KEYS[3]  {u}:log:<dest>
-- KEYS[4]  {u}:destinations
-- ARGV[1]  session id     ARGV[2]  incarnation       ARGV[3]  destination, '/queue/<name>' or '/topic/<name>'
-- ARGV[4]  ms that the sessions hash outlives its last use
-- ARGV[5]  ms that the meta outlives its last use
-- ARGV[6]  most sessions of the user
--
-- Returns {born, ms, seq, cursor, sent, seq of the oldest entry held (seq+1 when the log is empty), now in ms},
-- numbers as integers, cursor and sent as '<ms>-<seq>'; or an error that starts with TOOMANYSESSIONS.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then
    return redis.error_reply('TOOMANYSESSIONS the user has ' .. ARGV[6] .. ' sessions')
  end
  entry = ARGV[2]
end
if not string.find(entry .. ' ', ' ' .. ARGV[3] .. ' ', 1, true) then
  entry = entry .. ' ' .. ARGV[3]
end
redis.call('HSET', KEYS[1], ARGV[1], entry)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5], 'GT')

local meta = redis.call('HMGET', KEYS[2], 'born', 'ms', 'seq', 'cursor', 'sent')
if meta[1] then
  -- What is kept alive here has to be found when the user is forgotten.
  redis.call('SADD', KEYS[4], ARGV[3])
  redis.call('PEXPIRE', KEYS[4], ARGV[5], 'NX')
  redis.call('PEXPIRE', KEYS[4], ARGV[5], 'GT')
end
local seq = tonumber(meta[3]) or 0
local oldest = seq - redis.call('XLEN', KEYS[3]) + 1
return {tonumber(meta[1]) or 0, tonumber(meta[2]) or 0, seq, meta[4] or '0-0', meta[5] or '0-0', oldest, now}
