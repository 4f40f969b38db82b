#!lua flags=allow-oom
-- ADVANCE_CURSOR (step G7): move cursor and sent forward, never back, and never past the newest entry.
--
-- KEYS[1]  {u}:meta:<dest>
-- ARGV[1]  cursor, '<ms>-<seq>'   ARGV[2]  sent, '<ms>-<seq>'
--
-- Returns 1 if the cursor moved, else 0. A meta that was lost is not made again: ids of a lost log mean nothing.

local meta = redis.call('HMGET', KEYS[1], 'cursor', 'sent', 'ms', 'seq')
if not meta[4] then return 0 end

local function parse(id)
  local ms, seq = string.match(id or '0-0', '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local function newer(a, b)
  local a_ms, a_seq = parse(a)
  local b_ms, b_seq = parse(b)
  return a_ms > b_ms or (a_ms == b_ms and a_seq > b_seq)
end

local newest = meta[3] .. '-' .. meta[4]
local moved = 0
if newer(ARGV[1], meta[1]) and not newer(ARGV[1], newest) then
  redis.call('HSET', KEYS[1], 'cursor', ARGV[1])
  moved = 1
end
if newer(ARGV[2], meta[2]) and not newer(ARGV[2], newest) then
  redis.call('HSET', KEYS[1], 'sent', ARGV[2])
end
return moved
