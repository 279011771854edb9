-- Declares a process dead whose lease has ended: from this instant its takes and heartbeats are refused. Only if it has
-- not been heard of meanwhile.
--
-- KEYS  1 the leases   2 its in-flight hash
-- ARGV  1 its identity   2 the end of its lease, as it was read
-- Returns  1; 2 if that had been declared before; 0 if it is not so: it lives, or is gone for good
-- Before   its lease stands as it was read, and has ended     After   its record says that it has ended

local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) ~= tonumber(ARGV[2]) then return 0 end

local time = redis.call('TIME')
if tonumber(score) > time[1] + time[2] / 1000000 then return 0 end

if redis.call('HEXISTS', KEYS[2], 'ended') == 1 then return 2 end
redis.call('HSET', KEYS[2], 'ended', '1')
return 1
