-- Sets the end of a lease anew and says when it is; 0 for a lease that is lost.
-- ARGV: token, length, skew.
local _, now = clock()
local r, held = lease(redis.call('GET', KEYS[1]), ARGV[1], now)
if not held then return 0 end
r.written, r.deadline = now, later(now, tonumber(ARGV[2]))
r.expires = math.max(expiry(r, now), r.deadline)
write(KEYS[1], r, '', tonumber(ARGV[3]))
return r.deadline
