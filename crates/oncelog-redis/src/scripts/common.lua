-- What the scripts share: the clock, and records as bytes. A record is
--   magic 1, format and kind 1, flags 1, version 7, written 6, expires 6, outcome's end 6, call 8
-- and, if it was begun (flag 128),
--   first seen 6, attempts 4, deadline 6, retention 6, fingerprint 16
-- and then the outcome. Integers are little-endian, times are milliseconds, and the outcome's end
-- is how long it is to be replayed until there is one. `call` is drawn anew for each call of a
-- verb, so that a client which sends a call again, after a connection was lost, is answered as if
-- it had not.
local PLAIN, LEASED = '<BBBI7I6I6I6c8', '<BBBI7I6I6I6c8I6I4I6I6c16'
local PLAIN_BYTES, LEASED_BYTES = 36, 74
local MAGIC, STARTED, RELEASED, COMPLETED, FAILED, REMOVED = 0xC1, 0x11, 0x12, 0x13, 0x14, 0x15
local FINGERPRINT, HOLD, FIRST_SEEN, LAST_SEEN = 1, 2, 4, 8
local KEEP_MARK, MARK_ONLY, WAITED, BEGUN = 16, 32, 64, 128
local NEVER = 281474976710655

-- Microseconds and milliseconds, of the server alone.
local function clock()
  local time = redis.call('TIME')
  local micros = time[1] * 1000000 + time[2]
  return micros, (micros - micros % 1000) / 1000
end

local function has(flags, flag)
  return flags % (flag * 2) >= flag
end

local function later(from, span)
  if span < 0 then return NEVER end
  return math.min(from + span, NEVER - 1)
end

-- The record in these bytes; nil, and what is wrong with them, if it is none.
local function read(bytes)
  local magic, kind = string.byte(bytes, 1, 2)
  if magic ~= MAGIC or #bytes < PLAIN_BYTES then
    return nil, 'ONCELOG the key holds what this crate has not written'
  end
  if kind < STARTED or kind > REMOVED then
    return nil, 'ONCELOG the key holds a record of format ' .. math.floor(kind / 16)
      .. ' and kind ' .. kind % 16 .. ', which this version does not read'
  end
  local r = { kind = kind, head = PLAIN_BYTES, attempts = 0, deadline = 0, retention = 0 }
  local _
  _, _, r.flags, r.version, r.written, r.expires, r.outcome, r.call = struct.unpack(PLAIN, bytes)
  r.first = r.written
  if has(r.flags, BEGUN) then
    if #bytes < LEASED_BYTES then
      return nil, 'ONCELOG the key holds a record that was cut off'
    end
    r.head = LEASED_BYTES
    r.first, r.attempts, r.deadline, r.retention, r.fingerprint =
      struct.unpack('<I6I4I6I6c16', bytes, PLAIN_BYTES + 1)
  end
  return r
end

-- As read, for a script that has one key; nil if there is none that counts at this time.
local function known(bytes, now)
  if not bytes then return nil end
  local r, wrong = read(bytes)
  if not r then error({ err = wrong }) end
  if r.kind == REMOVED or r.expires <= now then return nil, r end
  return r
end

-- Writes a record. It stays for as long as its version is ahead of any clock that may follow, even
-- if it does not count any more: so the next version, which is no less than the clock, is greater.
local function write(key, r, body, skew)
  local bytes
  if has(r.flags, BEGUN) then
    bytes = struct.pack(LEASED, MAGIC, r.kind, r.flags, r.version, r.written, r.expires, r.outcome,
      r.call, r.first, r.attempts, r.deadline, r.retention, r.fingerprint)
  else
    bytes = struct.pack(PLAIN, MAGIC, r.kind, r.flags, r.version, r.written, r.expires, r.outcome,
      r.call)
  end
  if r.expires >= NEVER then
    return redis.call('SET', key, bytes .. body)
  end
  local kept = math.max(r.expires, math.floor(r.version / 1000) + 1 + skew)
  return redis.call('SET', key, bytes .. body, 'PXAT', kept)
end
