#!lua flags=no-writes
-- READ_PAGE: read entries of a log, up to a number of entries and of bytes. One entry always fits.
--
-- KEYS[1]  {u}:log:<dest>
-- ARGV[1]  stream id after which the page begins
-- ARGV[2]  maximum number of entries, 1 or more   ARGV[3]  maximum bytes: names and values of all fields together
--
-- Returns {1 if ARGV[3] cut the page, else 0, entries as XRANGE returns them}. A page that was not cut and has fewer
-- entries than ARGV[2] ends with the newest entry of the log.

local limit, bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local after, page = ARGV[1], {}
-- Nobody knows an entry's size before it is read. So few are read at first, and then twice as many each time: a log of
-- large entries is not read far beyond the end of the page.
local step = 4
while #page < limit do
  local asked = math.min(step, limit - #page)
  local entries = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', asked)
  for _, entry in ipairs(entries) do
    for _, text in ipairs(entry[2]) do bytes = bytes - #text end
    if bytes < 0 and #page > 0 then return {1, page} end
    page[#page + 1] = entry
    after = entry[1]
  end
  if #entries < asked then break end
  step = step * 2
end
return {0, page}
