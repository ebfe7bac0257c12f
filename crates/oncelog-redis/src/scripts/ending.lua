-- What follows a lease: the record that ends or renews it.

-- How long a key is kept whose next record is written now; never shorter than it was.
local function expiry(r, now)
  local from = has(r.flags, FIRST_SEEN) and r.first or now
  local span = r.retention
  if span == NEVER then return NEVER end
  if has(r.flags, LAST_SEEN) then span = span + math.floor(span / 8) end
  return math.max(later(from, span), r.expires)
end

-- The lease with this token; nil if it is not the key's current one.
local function lease(bytes, token, now)
  local r = known(bytes, now)
  return r, r and r.kind == STARTED and r.version == tonumber(token)
end

-- Those who wait for the key have said so in its record. That they are told is no part of the
-- verb: they look by themselves too, and a user may be denied the channel.
local function wake(r, channel)
  if has(r.flags, WAITED) then redis.pcall('PUBLISH', channel, KEYS[1]) end
end

-- The outcome of a key that was begun.
local function finish(r, kind, call, flag, body, micros, now, skew)
  r.kind, r.call, r.version = kind, call, math.max(r.version + 1, micros)
  r.expires, r.written, r.deadline = expiry(r, now), now, 0
  if r.outcome > 0 then r.outcome = later(now, r.outcome) end
  r.flags = r.flags - (has(r.flags, WAITED) and WAITED or 0) + flag
  write(KEYS[1], r, body, skew)
  return r.version
end
