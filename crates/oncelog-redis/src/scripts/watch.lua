-- As peek, for one who waits: a key that is in progress says so from then on to whoever ends it.
local _, now = clock()
local bytes = redis.call('GETRANGE', KEYS[1], 0, LEASED_BYTES + 7)
if bytes == '' then return false end
local r = known(bytes, now)
if r and r.kind == STARTED and now < r.deadline and not has(r.flags, WAITED) then
  redis.call('SETRANGE', KEYS[1], 2, string.char(r.flags + WAITED))
end
return { now, bytes, redis.call('STRLEN', KEYS[1]) }
