-- Records each key that nothing is known of. Keys that are new are most of them, and each is one
-- command; what is needed for the others comes behind, and is not even defined before.
-- ARGV: retention (-1: for ever), 1 if it counts from the last sight, how long the outcome is
-- replayed (0: as long), when sent (-1: not said), birth of the namespace, skew, a digit for each
-- key that is 1 if its outcome is a mark alone (or empty: none is); then for each key the call and,
-- behind its 8 bytes, the outcome. A key that comes several times is decided on each time.
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = (micros - micros % 1000) / 1000
local retention, sent, horizon = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[5])
local replayed, skew, marks = tonumber(ARGV[3]), tonumber(ARGV[6]), ARGV[7]
local expires, ends, kept = 281474976710655, 0, nil
if retention >= 0 then
  expires = now + retention
  if ARGV[2] == '1' then expires = expires + math.floor(retention / 8) end
  expires = math.min(expires, 281474976710654)
  horizon = math.max(horizon, now - retention)
  -- As text, since a number would be made one for each key.
  kept = string.format('%.0f', math.max(expires, now + 1 + skew))
end
if replayed > 0 then ends = math.min(now + replayed, 281474976710654) end
local stale = sent >= 0 and sent < horizon
local head = struct.pack('<BBBI7I6I6I6', 0xC1, 0x13, 0, micros, now, expires, ends)
local direct, olds = marks == '' and not stale, {}
if direct then
  local known = false
  for i = 1, #KEYS do
    local old
    if kept then
      old = redis.pcall('SET', KEYS[i], head .. ARGV[i + 7], 'NX', 'GET', 'PXAT', kept)
    else
      old = redis.pcall('SET', KEYS[i], head .. ARGV[i + 7], 'NX', 'GET')
    end
    if old then olds[i], known = old, true end
  end
  if not known then return 0 end
end
