-- When the namespace was first used, which is now if it was not.
local _, now = clock()
return tonumber(redis.call('SET', KEYS[1], now, 'NX', 'GET') or now)
