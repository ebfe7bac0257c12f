-- Gives a key back; 0 for a lease that is lost.
-- ARGV: call, token, after how long it can be begun, channel, skew.
local micros, now = clock()
local r, held = lease(redis.call('GET', KEYS[1]), ARGV[2], now)
if not r then return 0 end
if r.kind == RELEASED and r.call == ARGV[1] then return 1 end
if not held then return 0 end
local waited = { flags = r.flags }
r.kind, r.call, r.version = RELEASED, ARGV[1], math.max(r.version + 1, micros)
r.written, r.deadline = now, later(now, tonumber(ARGV[3]))
r.expires = math.max(expiry(r, now), r.deadline)
r.flags = r.flags - (has(r.flags, WAITED) and WAITED or 0)
write(KEYS[1], r, '', tonumber(ARGV[5]))
wake(waited, ARGV[4])
return 1
