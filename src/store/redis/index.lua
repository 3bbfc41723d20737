-- A member of an index, which goes when the last row it leads to has gone; drops those that are over.
-- KEYS: the index. ARGV: 1 member, 2 now (ms), 3 when it ends (ms)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
redis.call('ZADD', KEYS[1], 'GT', ARGV[3], ARGV[1])
-- Members may be added until this is renewed: the index outlives them.
local left = math.floor((tonumber(ARGV[3]) - tonumber(ARGV[2])) * 1.25)
if redis.call('PTTL', KEYS[1]) < left then
  redis.call('PEXPIRE', KEYS[1], left)
end
return 0
