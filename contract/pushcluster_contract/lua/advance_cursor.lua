#!lua flags=allow-oom
-- ADVANCE_CURSOR (step G7): move cursor and sent forward, never back, and never past the newest entry; and let go of
-- what was delivered long enough ago. It runs while memory is full, and is what makes room then: APPEND cannot.
--
-- KEYS[1]  {u}:meta:<dest>      KEYS[2]  {u}:log:<dest>
-- ARGV[1]  cursor, '<ms>-<seq>'  ARGV[2]  sent, '<ms>-<seq>'
-- ARGV[3]  ms that an entry is kept after it was delivered
-- ARGV[4]  most entries that one call takes out one by one; of a longer log it takes out about as many, in whole nodes
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
local cursor, moved = meta[1], 0
if newer(ARGV[1], cursor) and not newer(ARGV[1], newest) then
  redis.call('HSET', KEYS[1], 'cursor', ARGV[1])
  cursor, moved = ARGV[1], 1
end
if newer(ARGV[2], meta[2]) and not newer(ARGV[2], newest) then
  redis.call('HSET', KEYS[1], 'sent', ARGV[2])
end
if not cursor then return moved end

-- Nobody waits for anything in here: it is needed for resume alone, and the next APPEND makes it last again.
if cursor == newest then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end

local time = redis.call('TIME')
local old = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(ARGV[3])
local cursor_ms, cursor_seq = parse(cursor)
local first_kept = string.format('%.0f-0', math.max(old, 0))
if cursor_ms < old then first_kept = string.format('%.0f-%.0f', cursor_ms, cursor_seq + 1) end
if redis.call('XLEN', KEYS[2]) <= tonumber(ARGV[4]) then
  redis.call('XTRIM', KEYS[2], 'MINID', first_kept)
else
  redis.call('XTRIM', KEYS[2], 'MINID', '~', first_kept, 'LIMIT', ARGV[4])
end
return moved
