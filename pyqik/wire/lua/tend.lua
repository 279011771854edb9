-- Renews the lease of a custody while anything waits in it; ends the custody when nothing does.
--
-- KEYS  1 in-flight hash of the custody   2 the leases
-- ARGV  1 identity of the custody   2 what the names of its lists begin with   3 seconds of its lease
-- Returns  how many units wait
-- Before   the custody may have record and lease        After   it has both, or, if nothing waits, neither

local waiting = 0
for queue in string.gmatch(redis.call('HGET', KEYS[1], 'queues.solo') or '', '[^\n]+') do
  waiting = waiting + redis.call('LLEN', ARGV[2] .. 'solo:' .. queue)
end

if waiting > 0 then
  redis.call('ZADD', KEYS[2], redis.call('TIME')[1] + ARGV[3], ARGV[1])
else
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('UNLINK', KEYS[1])
end
return waiting
