-- Decides on the keys of which something is known; see check_new.lua. The answer is 0 if all are
-- new, and else one for each key: 0 if it is new.
local last = ARGV[2] == '1'
local marked = struct.pack('<BBBI7I6I6I6', MAGIC, COMPLETED, MARK_ONLY, micros, now, expires, ends)
-- Keys that were written since they were looked at.
local written = {}

-- What is known of a key that has an outcome, prolonged if it was to be.
local function duplicate(key, r, bytes)
  if last and r.expires < later(now, retention) then
    r.version, r.expires = math.max(r.version + 1, micros), expires
    -- What is known is answered also where there is no room to remember it longer.
    if pcall(write, key, r, string.sub(bytes, r.head + 1), skew) then
      written[key], bytes = true, redis.call('GET', key)
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
  written[key] = true
  return 0
end

-- What the key holds; nil if it is new, and recorded.
local function record(key, item, flags)
  if stale then return redis.pcall('GET', key) or { err = '' } end
  local new = (flags == 0 and head or marked) .. item
  if kept then return redis.pcall('SET', key, new, 'NX', 'GET', 'PXAT', kept) or nil end
  return redis.pcall('SET', key, new, 'NX', 'GET') or nil
end

local answers = {}
for i = 1, #KEYS do
  local key, item, flags, old = KEYS[i], ARGV[i + 7], 0, olds[i]
  if not direct then
    if string.byte(marks, i) == 49 then flags = MARK_ONLY end
    old = record(key, item, flags)
  elseif old and written[key] then
    old = redis.pcall('GET', key)
  end
  -- Without room for a new key, one that is known is answered all the same.
  if type(old) == 'table' and string.find(old.err, 'OOM', 1, true) then
    old = redis.pcall('GET', key) or old
  end
  if not old then
    answers[i] = 0
  elseif type(old) ~= 'table' then
    answers[i] = decide(key, old, item, flags)
  elseif old.err == '' then
    answers[i] = { 4, horizon }
  else
    answers[i] = { 9, old.err }
  end
end
return answers
