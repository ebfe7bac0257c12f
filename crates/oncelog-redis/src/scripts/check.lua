-- Records each key that is not known, and says what is recorded of the others.
-- ARGV: retention (-1: for ever), 1 if it counts from the last sight, how long the outcome is
-- replayed (0: as long), when sent (-1: not said), birth of the namespace, skew, a digit for each
-- key that is 1 if its outcome is a mark alone (or empty: none is); then for each key the call and,
-- behind its 8 bytes, the outcome. A key that comes several times is decided on each time.
local micros, now = clock()
local retention, last = tonumber(ARGV[1]), ARGV[2] == '1'
local replayed, sent, skew = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])
local horizon, marks, ends, kept = tonumber(ARGV[5]), ARGV[7], 0, nil
local expires = later(now, last and retention >= 0 and retention + math.floor(retention / 8)
  or retention)
if retention >= 0 then
  horizon = math.max(horizon, now - retention)
  kept = math.max(expires, now + 1 + skew)
end
local stale = sent >= 0 and sent < horizon
if replayed > 0 then ends = later(now, replayed) end

-- What is known of a key that has an outcome, prolonged if it was to be.
local function duplicate(key, r, bytes)
  if last and r.expires < later(now, retention) then
    local version = math.max(r.version + 1, micros)
    local next = { kind = r.kind, flags = r.flags, version = version, written = r.written,
      expires = expires, outcome = r.outcome, call = r.call, first = r.first,
      attempts = r.attempts, deadline = r.deadline, retention = r.retention,
      fingerprint = r.fingerprint }
    -- What is known is answered also where there is no room to remember it longer.
    if pcall(write, key, next, string.sub(bytes, r.head + 1), skew) then
      bytes = redis.call('GET', key)
    end
  end
  return { 1, now, bytes }
end

local function decide(key, old, item, flags)
  local r, wrong = read(old)
  if not r then return { 9, wrong } end
  local floor, call = 0, string.sub(item, 1, 8)
  if r.kind == REMOVED or r.expires <= now then
    if stale then return { 4, horizon } end
  elseif r.kind == COMPLETED or r.kind == FAILED then
    if r.call == call then return 0 end
    return duplicate(key, r, old)
  else
    if r.kind == STARTED and now < r.deadline then return { 2, r.deadline } end
    if r.kind == STARTED and has(r.flags, HOLD) then return { 3 } end
    floor = r.expires
  end
  local next = { kind = COMPLETED, flags = flags, version = math.max(r.version + 1, micros),
    call = call, written = now, expires = math.max(expires, floor), outcome = ends }
  local done, fault = pcall(write, key, next, string.sub(item, 9), skew)
  if not done then return { 9, type(fault) == 'table' and fault.err or tostring(fault) } end
  return 0
end

local plain = struct.pack('<BBBI7I6I6I6', MAGIC, COMPLETED, 0, micros, now, expires, ends)
local marked = struct.pack('<BBBI7I6I6I6', MAGIC, COMPLETED, MARK_ONLY, micros, now, expires, ends)
local answers = {}
for i = 1, #KEYS do
  local key, item, new, flags, old = KEYS[i], ARGV[i + 7], plain, 0, nil
  if marks ~= '' and string.byte(marks, i) == 49 then new, flags = marked, MARK_ONLY end
  if stale then
    old = redis.pcall('GET', key)
    if not old then answers[i] = { 4, horizon } end
  else
    if kept then
      old = redis.pcall('SET', key, new .. item, 'NX', 'GET', 'PXAT', kept)
    else
      old = redis.pcall('SET', key, new .. item, 'NX', 'GET')
    end
    if not old then answers[i] = 0 end
    -- Without room for a new key, one that is known is answered all the same.
    if type(old) == 'table' and string.find(old.err, 'OOM', 1, true) then
      old = redis.pcall('GET', key) or old
    end
  end
  if type(old) == 'table' then
    answers[i] = { 9, old.err }
  elseif old then
    answers[i] = decide(key, old, item, flags)
  end
end
return answers
