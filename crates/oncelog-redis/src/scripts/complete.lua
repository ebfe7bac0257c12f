-- Ends a lease that complete_held.lua does not; says 0 for one that is lost and -1 for an outcome
-- that is too long.
local r, held = lease(bytes, ARGV[2], now)
if not r then return 0 end
local call, kind, flag = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
if r.kind == kind and r.call == call then return r.version end
if not held then return 0 end
if flag > 0 and not has(r.flags, KEEP_MARK) then return -1 end
local waited = { flags = r.flags }
local version = finish(r, kind, call, flag, ARGV[7], micros, now, tonumber(ARGV[6]))
wake(waited, ARGV[5])
return version
