#!lua flags=allow-oom
-- ADVANCE_CURSOR: move cursor and sent forward, never back, and never past the newest entry. Then trim the entries
-- that were delivered long enough ago. It may run while memory is full, and it frees memory then: APPEND cannot run.
--
-- KEYS[1]  {u}:meta:<dest>      KEYS[2]  {u}:log:<dest>
-- ARGV[1]  cursor, '<ms>-<seq>'  ARGV[2]  sent, '<ms>-<seq>'
-- ARGV[3]  ms for which an entry is kept after it was delivered
-- ARGV[4]  a log with at most this many entries is trimmed exactly; of a longer one, one call trims about as many, in
--          whole nodes of the stream
--
-- Returns 1 if the cursor moved, else 0. A lost meta is not created again: ids of a lost log mean nothing.

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

-- Everything is delivered. The log is only needed for resume now, and the next APPEND extends its life again.
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
