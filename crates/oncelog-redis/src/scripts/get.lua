-- What is recorded of a key, as it is, and the server's time.
local _, now = clock()
local bytes = redis.call('GET', KEYS[1])
if not bytes then return false end
return { now, bytes }
