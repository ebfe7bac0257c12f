-- Forgets a key; 1 if it was known. What is left keeps its version until clocks have passed it.
-- ARGV: call, version (or empty), channel, skew.
local micros, now = clock()
local r, dead = known(redis.call('GET', KEYS[1]), now)
if not r then return dead and dead.kind == REMOVED and dead.call == ARGV[1] and 1 or 0 end
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= r.version then return 0 end
local next = { kind = REMOVED, flags = 0, version = math.max(r.version + 1, micros),
  call = ARGV[1], written = now, expires = 0, outcome = 0 }
write(KEYS[1], next, '', tonumber(ARGV[4]))
wake(r, ARGV[3])
return 1
