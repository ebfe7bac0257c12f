-- Ends a lease with an outcome. Most are held, waited for by nobody and under a plain policy: for
-- these it is done here, and what is needed for the others comes behind.
-- ARGV: call, token, kind of the record, 32 if the outcome is a mark alone, channel, skew, outcome.
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = (micros - micros % 1000) / 1000
local bytes = redis.call('GET', KEYS[1])
if bytes and #bytes == 74 and string.sub(bytes, 1, 2) == '\193\17' and ARGV[4] == '0' then
  local _, _, flags, version, _, expires, ends, _, first, attempts, _, span, fingerprint =
    struct.unpack('<BBBI7I6I6I6c8I6I4I6I6c16', bytes)
  -- Begun, and perhaps with a fingerprint or to be held.
  if flags >= 128 and flags < 132 and version == tonumber(ARGV[2]) and now < expires then
    version = math.max(version + 1, micros)
    if span == 281474976710655 then
      expires = span
    else
      expires = math.max(math.min(now + span, 281474976710654), expires)
    end
    if ends > 0 then ends = math.min(now + ends, 281474976710654) end
    local done = struct.pack('<BBBI7I6I6I6c8I6I4I6I6c16', 0xC1, tonumber(ARGV[3]), flags, version,
      now, expires, ends, ARGV[1], first, attempts, 0, span, fingerprint) .. ARGV[7]
    if expires == 281474976710655 then
      redis.call('SET', KEYS[1], done)
    else
      local kept = math.max(expires, math.floor(version / 1000) + 1 + tonumber(ARGV[6]))
      redis.call('SET', KEYS[1], done, 'PXAT', string.format('%.0f', kept))
    end
    return version
  end
end
