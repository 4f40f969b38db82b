#!lua flags=allow-oom
-- ADVANCE_CURSOR: move cursor and sent forward, never back, and never past the newest entry. Then trim the entries
-- that were delivered long enough ago, unless APPEND has done so lately. It may run while memory is full, when APPEND
-- cannot, and it frees memory then.
--
-- KEYS[1]  {u}:meta:<dest>      KEYS[2]  {u}:log:<dest>
-- ARGV[1]  cursor, '<ms>-<seq>'  ARGV[2]  sent, '<ms>-<seq>'
-- ARGV[3]  ms for which an entry is kept after it was delivered, at least
-- ARGV[4]  a log with at most this many entries is trimmed exactly; of a longer one, one call trims about as many, in
--          whole nodes of the stream
--
-- Returns 1 if the cursor moved, else 0. A lost meta is not created again: ids of a lost log mean nothing.

local meta = redis.call('HMGET', KEYS[1], 'cursor', 'sent', 'ms', 'seq', 'tidied')
if not meta[4] then return 0 end

local function parse(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local newest_ms, newest_seq = tonumber(meta[3]), tonumber(meta[4])

-- Whether the id is newer than the one that is noted, and not newer than the newest.
local function advances(id, noted)
  if id == noted then return false end
  local ms, seq = parse(id)
  if ms > newest_ms or (ms == newest_ms and seq > newest_seq) then return false end
  local noted_ms, noted_seq = parse(noted or '0-0')
  return ms > noted_ms or (ms == noted_ms and seq > noted_seq)
end

local cursor, moved, changed = meta[1], 0, {}
if advances(ARGV[1], cursor) then
  cursor, moved = ARGV[1], 1
  changed = {'cursor', cursor}
end
if advances(ARGV[2], meta[2]) then
  changed[#changed + 1] = 'sent'
  changed[#changed + 1] = ARGV[2]
end
if #changed > 0 then redis.call('HSET', KEYS[1], unpack(changed)) end
if not cursor then return moved end

-- Everything is delivered. The log is only needed for resume now, and the next APPEND extends its life again.
if cursor == meta[3] .. '-' .. meta[4] then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end

-- APPEND trims at a pace of an eighth of ARGV[3], and notes when. What this call delivers late, it could not trim then:
-- its trim ended at the cursor, which was older than what is kept. Nothing is noted here. So while APPEND cannot run,
-- every call trims once the pace is over.
local time = redis.call('TIME')
local now, kept_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), tonumber(ARGV[3])
local tidied = tonumber(meta[5])
local before_ms = meta[1] and parse(meta[1]) or 0
if tidied and now - tidied < math.floor(kept_ms / 8) and now >= tidied and before_ms >= tidied - kept_ms then
  return moved
end

local old = now - kept_ms
local cursor_ms, cursor_seq = parse(cursor)
local first_kept = string.format('%.0f-0', math.max(old, 0))
if cursor_ms < old then first_kept = string.format('%.0f-%.0f', cursor_ms, cursor_seq + 1) end
if redis.call('XLEN', KEYS[2]) <= tonumber(ARGV[4]) then
  redis.call('XTRIM', KEYS[2], 'MINID', first_kept)
else
  redis.call('XTRIM', KEYS[2], 'MINID', '~', first_kept, 'LIMIT', ARGV[4])
end
return moved
