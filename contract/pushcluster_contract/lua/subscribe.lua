#!lua flags=allow-oom
-- SUBSCRIBE: add a destination to a session's entry and return the state of the log. Gateways call it for a client's
-- SUBSCRIBE and during their walk. It runs in the same hash slot as APPEND: a message is either already in the log, or
-- its dispatcher sees this session. It may run while memory is full, because a client that reads what waits for it
-- frees memory (add_members.lua).
--
-- KEYS[1]  {u}:sessions   KEYS[2]  {u}:meta:<dest>   KEYS[3]  {u}:log:<dest>
-- KEYS[4]  {u}:destinations
-- ARGV[1]  session id     ARGV[2]  incarnation       ARGV[3]  destination, '/queue/<name>' or '/topic/<name>'
-- ARGV[4]  ms by which the sessions hash outlives its last use
-- ARGV[5]  ms by which the meta outlives its last use
-- ARGV[6]  maximum number of sessions of the user
-- ARGV[7]  how often to write the destination: '1' when the session has a queue of its own for it, else '2'
--          (session_entry.py). Only the caller's own entry is written, so callers of other versions do not meet here.
-- ARGV[8]  id that the client says it has, '<ms>-<seq>', or ''
--
-- Returns {born, ms, seq, cursor, sent, seq of the oldest entry (seq+1 when the log is empty), now in ms, held}: numbers
-- as integers, cursor and sent as '<ms>-<seq>'. `held` is the newest entry in the log that is not newer than ARGV[8],
-- or ''. Or returns an error that starts with TOOMANYSESSIONS.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then
    return redis.error_reply('TOOMANYSESSIONS the user has ' .. ARGV[6] .. ' sessions')
  end
  entry = ARGV[2]
end
local written = ARGV[3]
if ARGV[7] == '2' then written = written .. ' ' .. written end
local words, found = {}, false
for word in string.gmatch(entry, '%S+') do
  if word ~= ARGV[3] then
    words[#words + 1] = word
  elseif not found then
    found = true
    words[#words + 1] = written
  end
end
if not found then words[#words + 1] = written end
redis.call('HSET', KEYS[1], ARGV[1], table.concat(words, ' '))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5], 'GT')

local meta = redis.call('HMGET', KEYS[2], 'born', 'ms', 'seq', 'cursor', 'sent')
if meta[1] then
  -- The meta lives longer now, so FORGET must be able to find it as long.
  redis.call('SADD', KEYS[4], ARGV[3])
  redis.call('PEXPIRE', KEYS[4], ARGV[5], 'NX')
  redis.call('PEXPIRE', KEYS[4], ARGV[5], 'GT')
end
local seq = tonumber(meta[3]) or 0
local oldest = seq - redis.call('XLEN', KEYS[3]) + 1
local held = (ARGV[8] or '') ~= '' and redis.call('XREVRANGE', KEYS[3], ARGV[8], '-', 'COUNT', 1)[1]
return {
  tonumber(meta[1]) or 0, tonumber(meta[2]) or 0, seq, meta[4] or '0-0', meta[5] or '0-0', oldest, now,
  held and held[1] or ''
}
