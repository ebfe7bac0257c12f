-- What is recorded of a key besides its outcome, its length, and the server's time.
local _, now = clock()
local bytes = redis.call('GETRANGE', KEYS[1], 0, LEASED_BYTES + 7)
if bytes == '' then return false end
return { now, bytes, redis.call('STRLEN', KEYS[1]) }
