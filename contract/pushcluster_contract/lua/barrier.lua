#!lua flags=allow-oom
-- BARRIER: write a value, so that the WAITAOF that follows covers everything that Redis answered before. It may run
-- while memory is full: what is in the logs by then must be acknowledged. Else the broker delivers it again, and it is
-- appended twice.
--
-- KEYS[1]  barrier
--
-- Returns OK.

return redis.call('SET', KEYS[1], '1')
