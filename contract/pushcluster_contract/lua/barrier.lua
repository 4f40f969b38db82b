#!lua flags=allow-oom
-- BARRIER (step D5): write something, so that the WAITAOF behind it covers all that Redis had answered before. It runs
-- while memory is full: what is in the logs by then is to be acknowledged, or it comes again and is appended twice.
--
-- KEYS[1]  barrier
--
-- Returns OK.

return redis.call('SET', KEYS[1], '1')
