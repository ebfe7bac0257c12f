-- Says what came of a key that nobody holds: 1 if it is completed by this, 0 if it had no such
-- state, -1 for an outcome too long.
-- ARGV: call, 32 if the outcome is a mark alone, channel, skew, outcome.
local micros, now = clock()
local r = known(redis.call('GET', KEYS[1]), now)
if not r then return 0 end
if r.kind == COMPLETED or r.kind == FAILED then return r.call == ARGV[1] and 1 or 0 end
if r.kind == STARTED and now < r.deadline then return { 2, r.deadline } end
local flag = tonumber(ARGV[2])
if flag > 0 and not has(r.flags, KEEP_MARK) then return -1 end
local waited = { flags = r.flags }
finish(r, COMPLETED, ARGV[1], flag, ARGV[5], micros, now, tonumber(ARGV[4]))
wake(waited, ARGV[3])
return 1
