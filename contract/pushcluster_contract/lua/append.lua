#!lua
-- APPEND: write one message to a user's log and return the sessions that are to get it, in one round trip.
--
-- KEYS[1]  {u}:meta:<dest>     KEYS[2]  {u}:log:<dest>     KEYS[3]  {u}:sessions
-- KEYS[4]  {u}:destinations    KEYS[5]  fence:<partition>    KEYS[6]  {u}:recipients:<dest>
-- KEYS[7]  {u}:id:<hash>, only when the producer gave a message id
-- ARGV[1]  body                ARGV[2]  forwarded headers, JSON or ''
-- ARGV[3]  content type or ''  ARGV[4]  producer's message id or ''
-- ARGV[5]  ms for which the message may wait; 0: it has no bound of its own
-- ARGV[6]  maximum number of entries in the log
-- ARGV[7]  ms for which an entry is kept for an offline user, at least
-- ARGV[8]  ms for which an entry is kept after it was delivered, at least
-- ARGV[9]  ms by which the meta outlives its last use, at least
-- ARGV[10] ms for which a message id is remembered after its last use
-- ARGV[11] destination, '/queue/<name>' or '/topic/<name>'
-- ARGV[12] the caller's fencing token (take_token.lua)
-- ARGV[13] attempt, '<first token of the caller's AMQP channel>-<delivery tag>'
-- ARGV[14] ms by which the sessions hash outlives its last use
-- ARGV[15] where the producer wants outcomes (outcomes.ReplyAddress); only when it wants any
--
-- A caller whose token is lower than that of another call gets an error that starts with STALE, and nothing happens.
-- Bytes that wait in a connection or in a frozen program can so do nothing once anybody has gone on without them.
--
-- A caller may make an attempt again when it does not know what became of it. It makes the attempts of one destination
-- in the order of their tags, so the newest one that the log knows tells of all before it.
--
-- Returns one of:
--   {stream id, 0, entries dropped undelivered, sessions, expiry}   the message was appended
--   {stream id, 1, 0, sessions, expiry, content type, headers}      the message id was known: its entry in the log
--   {stream id, 1, 0, sessions, 0}                                  the message id was known; its entry left the log
--   the same two with 4 instead of 1                                and some session of the user has got the message;
--                                                                   1 also if it has left the log, and nobody knows
--   {stream id, 2, 0, '', 0}                                        the log has another body under this message id
--   {stream id, 3, 0, sessions, expiry, content type, headers}      this attempt was made before: its entry in the log
--   {'', 3, 0, sessions, 0}                                         this attempt was made before; its entry left the log
-- The expiry is in ms since the epoch; 0: never. Sessions are those with the destination, '<session id> <incarnation>'
-- in one line each, with ' -' behind it where the session has no queue of its own for it (session_entry.py). Other
-- destinations of a session are left out, so that they cannot make the reply long.
--
-- The meta hash: born   ms since the epoch at its creation; an id older than this belongs to a log that was lost
--                ms,seq of the newest entry; seq has no holes, so the stream holds seq-XLEN+1 .. seq
--                cursor newest id that some session of the user has got (acknowledged, or written in ack mode auto)
--                sent   newest id that was ever written to a socket
--                accounted  entries up to this seq have been delivered or counted as dropped
--                missed     entries behind this seq, up to accounted, may have been dropped before anybody got them
--                attempt  newest attempt that appended an entry or had a known message id
--                found    entry of the last attempt that was made again, until the next one is appended
--                tidied   ms since the epoch at which old entries were last trimmed and all lives extended
--                many     '1' when the user had MANY_SESSIONS, else absent or '0'
--
-- Most calls only add their entry. Old entries are trimmed, and the lives of log, meta and destinations extended, once in
-- an eighth of ARGV[8]. So each of them lives longer by that.

local held, token = tonumber(redis.call('GET', KEYS[5])) or 0, tonumber(ARGV[12])
if token < held then return redis.error_reply('STALE token ' .. ARGV[12] .. ', another one has appended since') end
if token > held then redis.call('SET', KEYS[5], ARGV[12]) end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local meta = redis.call('HMGET', KEYS[1], 'ms', 'seq', 'cursor', 'accounted', 'born', 'attempt', 'found', 'missed',
  'tidied', 'many')
local PACE = math.floor(tonumber(ARGV[8]) / 8)
local tidied = tonumber(meta[9])
-- A clock that goes back must not stop it.
local is_due = not tidied or now - tidied >= PACE or now < tidied

-- Of all entries of the user, the sessions that have the destination.
local function select_sessions(entries)
  local wanted, selected = ' ' .. ARGV[11], {}
  for i = 1, #entries, 2 do
    local entry = entries[i + 1]
    local from, to = string.find(entry, wanted, 1, true)
    -- Skip other destinations that begin with the same letters.
    while from and to < #entry and string.byte(entry, to + 1) ~= 32 do
      from, to = string.find(entry, wanted, to, true)
    end
    if from then
      local again = string.sub(entry, to + 1, to + #wanted + 1)
      local mark = (again == wanted or again == wanted .. ' ') and ' -' or ''
      selected[#selected + 1] = entries[i] .. ' ' .. string.match(entry, '^[^ ]*') .. mark
    end
  end
  return table.concat(selected, '\n')
end

-- The entries of many sessions are long, so what was selected from them is kept for the next call, with a stamp of the
-- hash: each change of it moves its end of life, or the number of its fields. Two changes within one ms move the end
-- of life only once, so nothing is kept in the ms of a change.
local MANY_SESSIONS, KEPT_MS = 8, 60000

local function read_sessions_of_many()
  local count = redis.call('HLEN', KEYS[3])
  local ends = count >= MANY_SESSIONS and redis.call('PEXPIRETIME', KEYS[3]) or -1
  if ends < 0 then return select_sessions(redis.call('HGETALL', KEYS[3])), count end
  local stamp = string.format('%.0f %.0f\n', ends, count)
  local kept = redis.call('GET', KEYS[6])
  if kept and string.sub(kept, 1, #stamp) == stamp then return string.sub(kept, #stamp + 1), count end
  local selected = select_sessions(redis.call('HGETALL', KEYS[3]))
  if ends - tonumber(ARGV[14]) < now then redis.call('SET', KEYS[6], stamp .. selected, 'PX', KEPT_MS) end
  return selected, count
end

local sessions, count
local had_many = meta[10] == '1'
if had_many then
  sessions, count = read_sessions_of_many()
else
  local entries = redis.call('HGETALL', KEYS[3])
  sessions, count = select_sessions(entries), #entries / 2
end

-- An entry of the log as a reply.
local function tell(code, entry)
  local field = {}
  for i = 1, #entry[2], 2 do field[entry[2][i]] = entry[2][i + 1] end
  return {entry[1], code, 0, sessions, tonumber(field.e) or 0, field.t or '', field.h or ''}, field
end

local function name_attempt(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'a' then
      local channel, tag = string.match(entry[2][i + 1], '^(%d+)-(%d+)$')
      return channel, tonumber(tag)
    end
  end
end

-- What the log has of an attempt that was made before: its entry, or nil and whether an older entry stands there. As
-- the oldest entries leave the log first, the attempt then never had one.
local function find(channel, tag)
  -- Attempts are made again in order: as a rule, the entry follows the one that was found last.
  local from, is_first = meta[7], true
  while from do
    local page = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', 4)
    from = nil
    for _, entry in ipairs(page) do
      local its_channel, its_tag = name_attempt(entry)
      if its_channel ~= channel or (is_first and its_tag > tag) then from = nil; break end
      if its_tag == tag then return entry end
      if its_tag > tag then return nil, true end
      from, is_first = '(' .. entry[1], false
    end
  end
  from = '+'
  while true do
    local page = redis.call('XREVRANGE', KEYS[2], from, '-', 'COUNT', 16)
    for _, entry in ipairs(page) do
      local its_channel, its_tag = name_attempt(entry)
      if its_channel ~= channel or its_tag < tag then return nil, true end
      if its_tag == tag then return entry end
    end
    if #page < 16 then return nil, false end
    from = '(' .. page[#page][1]
  end
end

local made_before, never_appended = false, false
local made_channel, made_tag = string.match(meta[6] or '', '^(%d+)-(%d+)$')
if made_channel then
  local channel, tag = string.match(ARGV[13], '^(%d+)-(%d+)$')
  if channel == made_channel and tonumber(tag) <= tonumber(made_tag) then
    local entry
    made_before = true
    entry, never_appended = find(channel, tonumber(tag))
    if entry then
      redis.call('HSET', KEYS[1], 'found', entry[1])
      return (tell(3, entry))
    end
  end
end

if KEYS[7] then
  local known = redis.call('GET', KEYS[7])
  -- An id older than the log belongs to a former log that was forgotten or lost. Its message is unknown now.
  if known and meta[5] and tonumber(string.match(known, '^%d+')) >= tonumber(meta[5]) then
    redis.call('PEXPIRE', KEYS[7], ARGV[10])
    local entry = redis.call('XRANGE', KEYS[2], known, known)[1]
    local seq = tonumber(string.match(known, '%d+$'))
    local got = meta[3] and tonumber(string.match(meta[3], '%d+$')) >= seq
    -- The cursor also passes what was dropped before anybody got it.
    if not entry and meta[8] and seq > tonumber(meta[8]) and seq <= tonumber(meta[4]) then got = false end
    local code = got and 4 or 1
    local reply, field = {known, code, 0, sessions, 0}, nil
    if entry then reply, field = tell(code, entry) end
    if field and field.b ~= ARGV[1] then return {known, 2, 0, '', 0} end
    if not made_before then redis.call('HSET', KEYS[1], 'attempt', ARGV[13]) end
    return reply
  end
end
if made_before then
  -- It was not appended, and had no message id that could have been known: Redis has refused it.
  if never_appended and not KEYS[7] then return redis.error_reply('ERR refused when it was tried before') end
  return {'', 3, 0, sessions, 0}
end

local ms = math.max(tonumber(meta[1]) or 0, now)
local seq = (tonumber(meta[2]) or 0) + 1
local cursor_ms, cursor_seq = 0, 0
if meta[3] then
  local a, b = string.match(meta[3], '^(%d+)-(%d+)$')
  cursor_ms, cursor_seq = tonumber(a), tonumber(b)
end
local accounted = tonumber(meta[4]) or 0

local id = string.format('%.0f-%.0f', ms, seq)
local expires = 0
local fields = {'b', ARGV[1], 'a', ARGV[13]}
if ARGV[2] ~= '' then fields[#fields + 1] = 'h'; fields[#fields + 1] = ARGV[2] end
if ARGV[3] ~= '' then fields[#fields + 1] = 't'; fields[#fields + 1] = ARGV[3] end
if ARGV[4] ~= '' then fields[#fields + 1] = 'm'; fields[#fields + 1] = ARGV[4] end
if ARGV[5] ~= '0' then
  expires = now + tonumber(ARGV[5])
  fields[#fields + 1] = 'e'; fields[#fields + 1] = string.format('%.0f', expires)
end
if ARGV[15] and sessions ~= '' then
  -- The sessions that are to answer. Without any, the dispatcher answers at once, so the entry need not ask.
  local sids = {}
  for line in string.gmatch(sessions, '[^\n]+') do sids[#sids + 1] = string.match(line, '^[^ ]+') end
  fields[#fields + 1] = 'r'; fields[#fields + 1] = table.concat(sids, ' ') .. '\n' .. ARGV[15]
end
-- ARGV[6] bounds the number of entries in any case.
if not redis.call('XADD', KEYS[2], 'NOMKSTREAM', 'MAXLEN', ARGV[6], id, unpack(fields)) then
  is_due = true
  redis.call('XADD', KEYS[2], id, unpack(fields))
end

-- Undelivered entries stay for ARGV[7] ms, delivered ones for ARGV[8] ms.
if is_due then
  local keep_from = math.max(now - tonumber(ARGV[7]), math.min(cursor_ms, now - tonumber(ARGV[8])))
  redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f-0', math.max(keep_from, 0)))
end

local changed = {'ms', string.format('%.0f', ms), 'seq', string.format('%.0f', seq), 'attempt', ARGV[13]}
local function change(name, number)
  changed[#changed + 1] = name
  changed[#changed + 1] = string.format('%.0f', number)
end

-- As long as there is room for all that wait, only delivered entries can have made room for this one.
local accounted_for, dropped = math.max(cursor_seq, accounted), 0
if is_due or seq - accounted_for > tonumber(ARGV[6]) then
  local before_oldest = seq - redis.call('XLEN', KEYS[2])
  dropped = math.max(0, before_oldest - accounted_for)
  if dropped > 0 then
    change('accounted', before_oldest)
    if not meta[8] then change('missed', before_oldest - dropped) end
  end
end
if not meta[5] then change('born', now) end
if is_due then change('tidied', now) end
local has_many = count >= MANY_SESSIONS
if has_many ~= had_many then change('many', has_many and 1 or 0) end
redis.call('HSET', KEYS[1], unpack(changed))
if meta[7] then redis.call('HDEL', KEYS[1], 'found') end

if is_due then
  redis.call('PEXPIRE', KEYS[1], ARGV[9] + PACE)
  redis.call('PEXPIRE', KEYS[2], ARGV[7] + PACE)
  local HOUR = 3600000
  if not tidied or math.floor(now / HOUR) ~= math.floor(tidied / HOUR) then
    -- Once an hour is enough, because the set lives an hour longer than any meta.
    local keep = ARGV[9] + PACE + HOUR
    redis.call('SADD', KEYS[4], ARGV[11])
    redis.call('PEXPIRE', KEYS[4], keep, 'NX')
    redis.call('PEXPIRE', KEYS[4], keep, 'GT')
  end
elseif meta[3] == meta[1] .. '-' .. meta[2] then
  -- When everything was delivered, ADVANCE_CURSOR has shortened the log's life.
  redis.call('PEXPIRE', KEYS[2], ARGV[7] + PACE)
end
if KEYS[7] then redis.call('SET', KEYS[7], id, 'PX', ARGV[10]) end

return {id, 0, dropped, sessions, expires}
