-- Claims a key that nothing is known of, which most are: one command. What is needed for the others
-- comes behind, and is not even defined before.
-- ARGV: call, retention (-1: for ever), how long the outcome is to be replayed (0: as long), flags,
-- length of the lease, most attempts, fingerprint (or empty), when sent (-1: not said), birth of
-- the namespace, skew.
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = (micros - micros % 1000) / 1000
local retention, flags, skew = tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[10])
local deadline = math.min(now + tonumber(ARGV[5]), 281474976710654)
local old
if ARGV[8] == '-1' then
  local expires, span = 281474976710655, 281474976710655
  if retention >= 0 then
    span, expires = retention, now + retention
    if flags % 16 >= 8 then expires = expires + math.floor(retention / 8) end
    expires = math.max(math.min(expires, 281474976710654), deadline)
  end
  local bits, fingerprint = flags + 129, ARGV[7]
  if fingerprint == '' then bits, fingerprint = flags + 128, string.rep('\0', 16) end
  local new = struct.pack('<BBBI7I6I6I6c8I6I4I6I6c16', 0xC1, 0x11, bits, micros, now, expires,
    tonumber(ARGV[3]), ARGV[1], now, 1, deadline, span, fingerprint)
  if retention >= 0 then
    local kept = string.format('%.0f', math.max(expires, now + 1 + skew))
    old = redis.pcall('SET', KEYS[1], new, 'NX', 'GET', 'PXAT', kept)
  else
    old = redis.pcall('SET', KEYS[1], new, 'NX', 'GET')
  end
  if not old then return { 0, micros, 1, now, deadline } end
end
