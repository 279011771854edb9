-- Which leases have ended, or soon will.
--
-- KEYS  1 the leases
-- ARGV  1 seconds by which to look ahead
-- Returns  {Redis's time, identity, end of its lease, identity, end, ...}; all times in epoch seconds, as texts
-- Before and after   the same; but it fails wherever a heartbeat would: on a full server, a replica, a broken disk

-- Changes nothing, as there is no such member, and is refused like any write.
redis.call('ZADD', KEYS[1], 'XX', 0, '')

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local reply = {string.format('%.6f', now)}
for _, value in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now + ARGV[1], 'WITHSCORES')) do
  reply[#reply + 1] = value
end
return reply
