-- Reads and writes the states of long jobs, for runs that still hold their jobs.
--
-- KEYS  1 in-flight hash   2 the leases, by which the other processes are known
-- ARGV  1 identity of the process   2 seconds for which a state is kept   3 seconds that a deploy may take
--       then for each request: token, key of the state, verb, how many words follow, and these:
--       "open": none       "save": the hashes to be written, see `hashes.lua`, the state first
--       "read": key of a hash beside the state, where to go on reading ("0": at the beginning)
-- Returns  for each request what it found: {"lost"} if the unit is no longer in the record, or, after it was opened, if
--          another run has opened the state since; {"broken", why} if something else has a key; {"later"} if the job was
--          stopped twice lately, this process is older than that, and a younger one serves the queue, too: in the middle
--          of a deploy it would only be stopped again;
--          to open: {"ok", {field, value, ...}}, all of the state; to save: {"ok", when the job was cancelled, or ""};
--          to read: {"ok", {field, value, ...}, where to go on reading}, "0" if that was all
-- Before   a state, or none        After   opened: this run owns it; saved: the hashes have these fields

local replies = {}

local function decoded(text)
  local fine, value = pcall(cjson.decode, text or '')
  return fine and type(value) == 'table' and value or {}
end

local function info(identity)
  return decoded(redis.call('HGET', identity, 'info'))
end

local function serves(process, queue)
  for _, name in ipairs(process.queues or {}) do
    if name == queue then return true end
  end
end

local function is_for_a_younger_one(key, queue)
  local stops = redis.pcall('HGET', key, 'stops')
  if type(stops) ~= 'string' then return false end
  stops = decoded(stops)
  local first, last, began = tonumber(stops[1]), tonumber(stops[#stops]), tonumber(info(ARGV[1]).started_at)
  if #stops < 2 or not (first and last and began) or began > first then return false end
  if last < redis.call('TIME')[1] - ARGV[3] then return false end
  for _, identity in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    local other = info(identity)
    if (tonumber(other.started_at) or 0) > first and serves(other, queue)
      and redis.call('HGET', identity, 'quiet') ~= 'true' then
      return true
    end
  end
  return false
end

local function open(key, owner, record)
  if is_for_a_younger_one(key, string.match(record, '^[^\n]*')) then return {'later'} end
  -- A Ruby process that takes over must find the three fields that it reads: it fails on a hash without them.
  local written = redis.pcall('HSETNX', key, 'ex', 0)
  if type(written) == 'table' then return {'broken', written.err} end
  redis.call('HSETNX', key, 'c', 'null')
  redis.call('HSETNX', key, 'rt', 0)
  redis.call('HSET', key, 'owner', owner)
  redis.call('EXPIRE', key, ARGV[2])
  return {'ok', redis.call('HGETALL', key)}
end

local function save(key, first, last)
  local broken = write_hashes(first, last)
  if broken then return {'broken', broken} end
  return {'ok', redis.call('HGET', key, 'cancelled') or ''}
end

local function read(hash, position)
  local page = redis.pcall('HSCAN', hash, position, 'COUNT', 1000)
  if page.err then return {'broken', hash .. ': ' .. page.err} end
  return {'ok', page[2], page[1]}
end

local i = 4
while i <= #ARGV do
  local token, key, verb, first = ARGV[i], ARGV[i + 1], ARGV[i + 2], i + 4
  local last = i + 3 + tonumber(ARGV[i + 3])
  local owner = ARGV[1] .. ' ' .. token
  local record = redis.call('HGET', KEYS[1], token)
  local reply = {'lost'}
  if record and verb == 'open' then
    reply = open(key, owner, record)
  elseif record and redis.pcall('HGET', key, 'owner') == owner then
    reply = verb == 'save' and save(key, first, last) or read(ARGV[first], ARGV[first + 1])
  end
  replies[#replies + 1] = reply
  i = last + 1
end

return replies
