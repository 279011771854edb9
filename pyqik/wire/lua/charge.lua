-- Charges a crash to a unit of work. One that has crashed its process too often in a while, without progress in between,
-- leaves the record of the last of them for the dead set.
--
-- KEYS  1 in-flight hash of the process that died   2 the job's crashes   3 its `it-<jid>`   4 `dead`
-- ARGV  1 token   2 what tells this crash from others   3 seconds for which a crash counts   4 how many are too many
--       5 score and 6 payload of the dead entry   7 lowest score that the dead set keeps   8 most entries that it keeps
--       then the fields of `it-<jid>` that change with progress
-- Returns  how many crashes count now; 0 if the unit is not in the record
-- Before   the unit is in the record
-- After    it still is, and the crash is counted, once however often this is called; or it is in the dead set, and its
--          crashes are forgotten: whoever retries it by hand gives it as many chances again

local in_flight, token, crash = KEYS[1], ARGV[1], ARGV[2]
local window, limit = tonumber(ARGV[3]), tonumber(ARGV[4])

if redis.call('HEXISTS', in_flight, token) == 0 then return 0 end

local fields = {}
for i = 9, #ARGV do fields[#fields + 1] = ARGV[i] end
-- Whoever else may have written that key, a job must not be stuck for it: hence `pcall`.
local state = redis.pcall('HMGET', KEYS[3], unpack(fields))
local progress = ''
for i = 1, #fields do
  progress = progress .. fields[i] .. '=' .. (not state.err and state[i] or '') .. '\n'
end

if redis.call('TYPE', KEYS[2]).ok ~= 'hash' then redis.call('UNLINK', KEYS[2]) end
local known = redis.call('HMGET', KEYS[2], 'last', 'progress', 'times')
local now, times = tonumber(redis.call('TIME')[1]), {}
if known[2] == progress then
  for time in string.gmatch(known[3] or '', '%d+') do
    if tonumber(time) > now - window then times[#times + 1] = time end
  end
end
if known[1] ~= crash then times[#times + 1] = now end

if #times >= limit then
  redis.call('ZADD', KEYS[4], ARGV[5], ARGV[6])
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', ARGV[7])
  redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -tonumber(ARGV[8]))
  redis.call('HDEL', in_flight, token)
  redis.call('UNLINK', KEYS[2])
else
  redis.call('HSET', KEYS[2], 'last', crash, 'progress', progress, 'times', table.concat(times, ' '))
  redis.call('EXPIRE', KEYS[2], window)
end
return #times
