#!lua flags=allow-oom
-- UNSUBSCRIBE: remove a destination from a session's entry.
--
-- KEYS[1]  {u}:sessions
-- ARGV[1]  session id   ARGV[2]  destination
--
-- Returns 1 if the entry had the destination, else 0.

local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then return 0 end
local kept, found = {}, 0
for word in string.gmatch(entry, '%S+') do
  if word == ARGV[2] then found = 1 else kept[#kept + 1] = word end
end
if found == 1 then
  redis.call('HSET', KEYS[1], ARGV[1], table.concat(kept, ' '))
  -- APPEND knows by its end of life that the hash has changed.
  local ends = redis.call('PEXPIRETIME', KEYS[1])
  if ends >= 0 then redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', ends + 1)) end
end
return found
