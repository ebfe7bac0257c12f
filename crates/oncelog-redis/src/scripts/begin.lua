-- Claims a key of which something is known, or says what stands against it; see begin_new.lua.
local key, call, most, fingerprint = KEYS[1], ARGV[1], tonumber(ARGV[6]), ARGV[7]
local sent, horizon, last = tonumber(ARGV[8]), tonumber(ARGV[9]), has(flags, LAST_SEEN)

local function life(from)
  if last and retention >= 0 then return later(from, retention + math.floor(retention / 8)) end
  return later(from, retention)
end

-- A key's bytes without its outcome; a mark begins with the length of what it stands for.
local function meta(code, r, bytes)
  local head = r.head
  if has(r.flags, MARK_ONLY) then head = head + 8 end
  return { code, now, string.sub(bytes, 1, head), #bytes }
end

local function replay(r, bytes)
  if last and r.expires < later(now, retention) then
    local expires, version, body = r.expires, r.version, string.sub(bytes, r.head + 1)
    r.expires, r.version = life(now), math.max(version + 1, micros)
    -- What is known is answered also where there is no room to remember it longer.
    if pcall(write, key, r, body, skew) then bytes = redis.call('GET', key) end
  end
  return { 1, now, bytes }
end

-- After an error, which may be that there is no room for a new key.
local bytes = type(old) == 'string' and old or redis.call('GET', key)
local r, dead = known(bytes, now)
if r then
  if fingerprint ~= '' and has(r.flags, FINGERPRINT) and fingerprint ~= r.fingerprint then
    return meta(6, r, bytes)
  end
  if r.kind == COMPLETED or r.kind == FAILED then return replay(r, bytes) end
  if r.kind == STARTED and r.call == call then
    return { 0, r.version, r.attempts, r.first, r.deadline }
  end
  if r.kind == STARTED and now < r.deadline then return meta(5, r, bytes) end
  if r.kind == STARTED and has(r.flags, HOLD) then return meta(7, r, bytes) end
  if r.attempts >= most then return meta(8, r, bytes) end
  if r.kind == RELEASED and now < r.deadline then return meta(5, r, bytes) end
else
  if retention >= 0 then horizon = math.max(horizon, now - retention) end
  if sent >= 0 and sent < horizon then return { 4, horizon } end
end

local next = { kind = STARTED, version = micros, call = call, written = now, first = now,
  attempts = 1, deadline = deadline, retention = retention < 0 and NEVER or retention,
  outcome = tonumber(ARGV[3]), fingerprint = fingerprint }
local before = r or dead
if before then next.version = math.max(before.version + 1, micros) end
if r then
  next.first, next.attempts = r.first, math.min(r.attempts + 1, 4294967295)
  if has(r.flags, FINGERPRINT) then next.fingerprint = r.fingerprint end
end
if next.fingerprint == '' then
  next.fingerprint = string.rep('\0', 16)
else
  flags = flags + FINGERPRINT
end
next.flags = flags + BEGUN
next.expires = math.max(life(has(flags, FIRST_SEEN) and next.first or now), deadline,
  r and r.expires or 0)
write(key, next, '', skew)
return { 0, next.version, next.attempts, next.first, deadline }
